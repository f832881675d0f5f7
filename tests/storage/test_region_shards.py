import pickle
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from storage.errors import DamagedFileError, MissingFileError, RecordError
from storage.records import HEIGHT_FIRST
from storage.region_shards import RegionReader
from tests.builders_storage import bytes_of, make_regions, many_regions, same, write_regions


def test_what_is_written_is_read_by_id_and_in_order(tmp_path: Path) -> None:
    records = many_regions(11)
    write_regions(tmp_path, records)
    reader = RegionReader(tmp_path)
    assert list(reader) == [record.image_id for record in records]
    assert all(same(reader[record.image_id], record) for record in records)
    assert all(map(same, reader.in_order(), records))
    assert (reader.detector, reader.feature_width, len(reader)) == ("d1", 8, 11)


def test_float32_on_request_and_float16_by_default(tmp_path: Path) -> None:
    regions = make_regions()
    exact = regions.features.astype(np.float32) + np.float32(1e-4)
    write_regions(tmp_path / "a", [replace(regions, features=exact)], dtype="float32")
    write_regions(tmp_path / "b", [replace(regions, features=exact)])
    assert np.array_equal(RegionReader(tmp_path / "a")["photos/1"].features, exact)
    kept = RegionReader(tmp_path / "b")["photos/1"].features
    assert kept.dtype == np.float16
    assert np.array_equal(kept, exact.astype(np.float16))


def test_shuffling_depends_on_seed_and_epoch_alone_and_loses_nobody(tmp_path: Path) -> None:
    write_regions(tmp_path, many_regions(50), rows_per_shard=40)
    reader = RegionReader(tmp_path)
    orders = {
        (seed, epoch): [regions.image_id for regions in reader.shuffled(seed, epoch)]
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert all(sorted(order) == sorted(reader) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == 4
    again = [regions.image_id for regions in RegionReader(tmp_path).shuffled(1, 1)]
    assert again == orders[1, 1]
    # rows of one group stay together
    place = {image_id: number // 16 for number, image_id in enumerate(islice(reader, 40))}
    run = [place.get(image_id, 3) for image_id in orders[0, 0]]
    assert sum(a != b for a, b in pairwise(run)) == len(set(run)) - 1


def test_labels_come_without_features(tmp_path: Path) -> None:
    records = many_regions(6)
    write_regions(tmp_path, records)
    labels = list(RegionReader(tmp_path).labels_in_order())
    assert [each.class_names for each in labels] == [each.class_names for each in records]
    assert [each.attribute_names for each in labels] == [each.attribute_names for each in records]


def test_arrays_read_belong_to_the_reader_of_them(tmp_path: Path) -> None:
    write_regions(tmp_path, many_regions(4))
    reader = RegionReader(tmp_path)
    regions = reader["photos/3"]
    regions.features[:] = 0
    regions.boxes[:] = 0
    assert not np.array_equal(reader["photos/3"].features, regions.features)
    assert not np.array_equal(reader["photos/3"].boxes, regions.boxes)


def test_a_reader_can_be_sent_to_another_process(tmp_path: Path) -> None:
    records = many_regions(5)
    write_regions(tmp_path, records)
    reader = pickle.loads(pickle.dumps(RegionReader(tmp_path)))
    assert same(reader["photos/4"], records[4])


def test_a_folder_without_images_is_complete(tmp_path: Path) -> None:
    write_regions(tmp_path, [], geometry=HEIGHT_FIRST)
    reader = RegionReader(tmp_path)
    assert len(reader) == 0
    assert reader.geometry == HEIGHT_FIRST
    assert list(reader.shuffled(0, 0)) == []


def test_a_place_in_memory_holds_the_same_bytes(tmp_path: Path) -> None:
    import fsspec

    records = many_regions(9)
    write_regions(tmp_path, records)
    write_regions("memory://shards/a", records)
    reader = RegionReader("memory://shards/a")
    assert all(map(same, reader.in_order(), records))
    assert same(reader["photos/7"], records[7])
    store = fsspec.filesystem("memory")
    for name, content in bytes_of(tmp_path).items():
        assert store.cat_file(f"/shards/a/{name}") == content
    store.rm("/shards", recursive=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 9}, "features are 9 wide, the shards 8"),
        ({"image_id": "photos/0"}, "added twice"),
    ],
)
@pytest.mark.parametrize("rows_per_shard", [1, 4])
def test_a_record_that_does_not_fit_is_refused(
    tmp_path: Path, change: dict, message: str, rows_per_shard: int
) -> None:
    records = [make_regions("photos/0"), make_regions(**{"image_id": "photos/1", **change})]
    with pytest.raises(RecordError, match=message):
        write_regions(tmp_path, records, rows_per_shard=rows_per_shard)
    with pytest.raises(MissingFileError, match=r"manifest\.json: no such file; the folder is inc"):
        RegionReader(tmp_path)


def test_a_feature_beyond_float16_is_refused(tmp_path: Path) -> None:
    regions = replace(make_regions(), features=np.full((3, 8), 1e5, np.float32))
    with pytest.raises(RecordError, match="beyond float16; keep features as float32"):
        write_regions(tmp_path, [regions])


def test_shards_of_other_settings_are_written_anew(tmp_path: Path) -> None:
    write_regions(tmp_path, many_regions(4))
    write_regions(tmp_path, many_regions(4), detector="d2")
    assert RegionReader(tmp_path).detector == "d2"
    with pytest.raises(RecordError, match="dtype 'float64'"):
        write_regions(tmp_path, many_regions(4), dtype="float64")


@pytest.mark.parametrize("read_all", [True, False])
def test_a_cut_shard_is_named(tmp_path: Path, read_all: bool) -> None:
    write_regions(tmp_path, many_regions(9))
    shard = tmp_path / "regions-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(DamagedFileError, match=r"regions-00001\.parquet: .* the manifest says"):
        RegionReader(tmp_path, read_all=read_all)


def test_a_changed_byte_is_found_and_the_shard_named(tmp_path: Path) -> None:
    write_regions(tmp_path, many_regions(9))
    shard = tmp_path / "regions-00001.parquet"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"regions-00001\.parquet: bytes changed"):
        RegionReader(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_regions(tmp_path, many_regions(9))
    (tmp_path / "regions-00002.parquet").unlink()
    with pytest.raises(DamagedFileError, match=r"regions-00002\.parquet: missing"):
        RegionReader(tmp_path)
