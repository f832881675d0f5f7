"""Whatever is written is read back equal, for any records."""

import tempfile
from pathlib import Path
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from storage.annotation_shards import read_annotations, write_annotations
from storage.published.label_maps import LabelMap, read_label_map, write_label_map
from storage.published.tsv import TsvReader, write_tsv
from storage.records import Annotations, ImageRegions, ImageTags
from storage.region_shards import RegionReader
from storage.region_slices import RegionSettings, write_regions
from storage.tag_shards import read_tags, write_tags
from tests.builders_storage import same
from tests.strategies import annotations, image_tags, label_maps, many_image_regions

FIELDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=6)


@given(
    data=st.data(), dtype=st.sampled_from(["float16", "float32"]), rows_per_shard=st.integers(1, 40)
)
def test_regions(data: st.DataObject, dtype: str, rows_per_shard: int) -> None:
    records: list[ImageRegions] = data.draw(many_image_regions(dtype=dtype))
    with tempfile.TemporaryDirectory() as folder:
        settings = RegionSettings(detector="d", feature_width=3, dtype=dtype)
        write_regions(folder, records, settings, rows_per_shard=rows_per_shard)
        reader = RegionReader(folder)
        assert len(reader) == len(records)
        assert all(map(same, reader.in_order(), records))
        assert all(same(reader[regions.image_id], regions) for regions in records)
        shuffled = {regions.image_id: regions for regions in reader.shuffled(0, 0)}
        assert all(same(shuffled[regions.image_id], regions) for regions in records)


@given(records=st.lists(image_tags(), max_size=4))
def test_tags(records: list[ImageTags]) -> None:
    place = f"memory://{uuid4()}"
    named = [
        ImageTags(image_id=str(n), tags=t.tags, attributes=t.attributes, language=t.language)
        for n, t in enumerate(records)
    ]
    write_tags(place, named)
    assert list(read_tags(place).values()) == named


@given(wanted=annotations())
def test_annotations(wanted: Annotations) -> None:
    place = f"memory://{uuid4()}"
    write_annotations(place, wanted)
    found = read_annotations(place)
    assert found.captions == wanted.captions
    assert found.questions == wanted.questions
    assert found.pairs == wanted.pairs
    assert len(found.objects) == len(wanted.objects)
    assert all(map(same, found.objects, wanted.objects))


@given(label_map=label_maps())
def test_label_maps(label_map: LabelMap) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "labelmap.json")
        write_label_map(path, label_map)
        assert read_label_map(path) == label_map


@given(rows=st.lists(st.lists(FIELDS, min_size=1, max_size=3), max_size=6))
def test_tables(rows: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.tsv")
        write_tsv(path, rows)
        wanted = [tuple(field.strip() for field in row) for row in rows]
        assert list(TsvReader(path)) == wanted
        path.with_suffix(".lineidx").unlink()
        assert list(TsvReader(path)) == wanted
