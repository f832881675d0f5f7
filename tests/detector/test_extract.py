"""Extraction of a list of photos: cutting it, going on, taking over what is known."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image

from detector import extract
from detector.checkpoints import read_detector
from detector.engine import Engine
from detector.engines.torch_engine import TorchEngine
from detector.errors import DetectorConfigError, NotFiniteError
from detector.extract import extract_shard, extract_shards
from detector.extractor import Extractor, extractor_of
from detector.preprocess import ModelImages
from detector.see import Detections
from detector.slices import Slice, Slices
from storage.errors import SourceError
from storage.photo_sources.collection import Collection, photos_in
from storage.places import Place
from storage.quarantine import read_quarantine
from storage.records import ImageSource
from storage.region_shards import RegionReader, RegionShard
from storage.region_slices import read_slice
from tests.builders_detector import photo, tiny_model
from tests.builders_extraction import TINY, Ground
from tests.builders_photos import lay_parquet, lay_table, lay_tar
from tests.builders_scenes import block_photos

TOO_LARGE = 1e4


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path, 10, damaged=5)


def photos(*names: str) -> list[ImageSource]:
    return [ImageSource(image_id=name, path=Path(name)) for name in names]


def test_a_list_is_cut_alike_wherever_it_is_cut() -> None:
    cut = Slices(photos("a", "b", "a", "c", "b"), 2)
    assert [[photo.image_id for photo in each.photos] for each in cut] == [["a", "b"], ["c"], []]
    assert [[one.image_id for one in each.repeated] for each in cut] == [[], ["a"], ["b"]]
    assert sum(map(len, cut)) == 5
    assert [each.key.number for each in cut] == [0, 1, 2]
    moved = Slices([*photos("a", "b", "a", "c"), ImageSource(image_id="b", path=Path("x"))], 2)
    assert [each.key for each in moved] == [each.key for each in cut]
    assert list(Slices([], 2)) == []
    assert cut[1:] == list(cut)[1:]


def test_threads_and_batches_do_not_show_on_a_cpu(ground: Ground) -> None:
    ground.extract("alone", batch_size=1)
    torch.set_num_threads(3)
    try:
        ground.extract("together", batch_size=3)
    finally:
        torch.set_num_threads(1)
    assert ground.bytes_of("together") == ground.bytes_of("alone")


def test_batches_of_one_size_and_one_slice_see_what_single_photos_see(ground: Ground) -> None:
    """As on a GPU, where rounding may differ: the same regions, in the same order."""
    detector = read_detector(ground.folder / "detector")
    single = extractor_of(detector, batch_size=1)
    batched = replace(single, batch_size=3, seers=2)
    stretch = Slices(ground.sources, 10)[0]
    alone = extract_shard(stretch, Place(ground.folder / "alone"), single)
    through: list[int] = []
    together = extract_shard(stretch, Place(ground.folder / "together"), batched, through.append)
    assert sum(through) == 10
    assert together.quarantined == alone.quarantined
    assert (together.entry.rows, together.num_regions) == (alone.entry.rows, alone.num_regions)


def test_photos_of_almost_one_size_may_share_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground = Ground(tmp_path, 0, damaged=None)
    sources = []
    for number, width in enumerate((60, 62, 64, 60, 40)):
        path = tmp_path / f"photos/{number}.png"
        Image.fromarray(photo(48, width, seed=number)).save(path)
        sources.append(ImageSource(image_id=str(number), path=path))
    detector = read_detector(ground.folder / "detector")
    plain = extractor_of(detector, precision="fast")
    padding = extractor_of(detector, precision="fast", pad_batches=True)
    assert padding.settings.engine == f"{plain.settings.engine}-padded"
    sizes: list[list[tuple[int, int]]] = []
    see = extract.see

    def counted(engine: Engine, images: ModelImages, **named: Any) -> list[Detections]:
        sizes.append(sorted(images.sizes))
        return see(engine, images, **named)

    monkeypatch.setattr(extract, "see", counted)
    stretch, found = Slices(sources, 10)[0], []
    for name, extractor in (("alone", padding), ("shared", replace(padding, batch_size=4))):
        sizes.clear()
        place = Place(tmp_path / name)
        report = extract_shard(stretch, place, extractor)
        found.append(list(RegionShard(place, report.entry.file).rows()))
    assert sizes == [[(48, 60), (48, 60), (48, 62), (48, 64)], [(57, 48)]]
    for alone, shared in zip(*found, strict=True):
        assert alone.class_ids.tolist() == shared.class_ids.tolist()
        np.testing.assert_allclose(alone.boxes, shared.boxes, atol=1e-2)


def test_exact_regions_are_not_padded_nor_photos_of_trunks_whose_grid_moves(
    ground: Ground,
) -> None:
    detector = read_detector(ground.folder / "detector")
    with pytest.raises(DetectorConfigError, match="precision: fast"):
        extractor_of(detector, pad_batches=True)
    lite = replace(detector, model=tiny_model(trunk="efficientnet_lite0"))
    with pytest.raises(DetectorConfigError, match="trunk of a ResNet"):
        extractor_of(lite, precision="fast", pad_batches=True)


def test_other_rules_make_other_settings(ground: Ground) -> None:
    detector = read_detector(ground.folder / "detector")
    own = extractor_of(detector).settings
    assert extractor_of(detector, rules=TINY.regions).settings == own
    assert extractor_of(detector, rules=replace(TINY.regions, max_regions=4)).settings != own


def test_only_new_and_changed_photos_are_computed(ground: Ground) -> None:
    first = ground.extract("first")
    assert (first.num_in, first.num_out, first.num_quarantined) == (10, 9, 1)
    assert (first.num_reused, first.num_computed) == (0, 9)
    new, _ = block_photos(ground.roots["0"], 3, split="new", seed=1)
    new[1].path.replace(ground.sources[5].path)  # the damaged one is whole now
    new[2].path.replace(ground.sources[8].path)  # another photo under an old name
    ground.list_photos([new[0], *ground.sources[:2], *ground.sources[3:]])
    second = ground.extract("second", earlier="first")
    assert (second.num_in, second.num_out, second.num_quarantined) == (10, 10, 0)
    assert (second.num_reused, second.num_computed) == (7, 3)
    fresh = ground.extract("fresh")
    assert (fresh.num_reused, fresh.num_computed) == (0, 10)
    assert ground.bytes_of("second") == ground.bytes_of("fresh")
    assert "blocks/train-2" not in RegionReader(ground.folder / "second/regions")


def test_what_is_known_is_not_seen_again(ground: Ground) -> None:
    """The earlier record is taken as it is: a detector that sees nothing changes nothing."""
    ground.extract("first")
    before = RegionReader(ground.folder / "first/regions")
    detector = read_detector(ground.folder / "detector")
    with torch.no_grad():
        for tensor in detector.model.parameters():
            tensor.zero_()
    extractor = replace(extractor_of(detector), earlier=_Known(before))
    stretch = Slices(ground.sources, 4)[0]
    report = extract_shard(stretch, Place(ground.folder / "second"), extractor)
    assert report.num_reused == 4
    assert report.entry.sha256 == before.manifest.shards[0].sha256


def test_a_reuse_that_was_interrupted_counts_as_one_that_was_not(ground: Ground) -> None:
    ground.extract("first")
    whole = ground.extract("second", earlier="first")
    (ground.folder / "second/regions/manifest.json").unlink()
    (ground.folder / "second/regions/regions-00001.parquet").unlink()
    assert ground.extract("second", earlier="first") == whole
    assert whole.num_reused == 9


def test_a_photo_that_vanished_since_it_was_listed_is_set_aside(ground: Ground) -> None:
    ground.sources[3].path.unlink()
    summary = ground.extract("first")
    assert (summary.num_in, summary.num_out, summary.num_quarantined) == (10, 8, 2)
    dropped = read_quarantine(ground.folder / "first/quarantine.jsonl")
    assert [entry.image_id for entry in dropped] == ["blocks/train-3", "blocks/train-5"]
    assert "No such file" in dropped[0].detail


def test_a_shorter_list_leaves_no_shard_of_the_longer_one(ground: Ground) -> None:
    ground.extract("first")
    ground.list_photos(ground.sources[:4])
    ground.extract("first")
    assert sorted(path.name for path in (ground.folder / "first/regions").iterdir()) == [
        "manifest.json",
        "regions-00000.parquet",
    ]


def test_every_shard_can_be_told_from_its_slice(ground: Ground) -> None:
    ground.extract("first")
    detector = read_detector(ground.folder / "detector")
    settings = extractor_of(detector).settings
    place = Place(ground.folder / "first/regions")
    reports = [read_slice(place, each.key, settings) for each in Slices(ground.sources, 4)]
    assert [report.entry.rows for report in reports if report] == [4, 3, 2]
    other = Slices(ground.sources[1:], 4)
    assert [read_slice(place, each.key, settings) for each in other] == [None] * 3


class _Known:
    """Takes from a reader by name alone."""

    def __init__(self, reader: RegionReader) -> None:
        self._reader = reader
        self.hashes = frozenset(reader.hashes_in_order())

    def find(self, image_id: str, content_hash: str):
        return self._reader[image_id]


def test_slices_one_after_the_other_are_what_each_is_alone(ground: Ground) -> None:
    ground.list_photos([*ground.sources, ground.sources[1]])  # the last slice holds a repeated id
    extractor = extractor_of(read_detector(ground.folder / "detector"), workers=2, batch_size=2)
    slices = Slices(ground.sources, 3)
    alone = [extract_shard(each, Place(ground.folder / "alone"), extractor) for each in slices]
    through: list[int] = []
    place = Place(ground.folder / "together")
    together = list(extract_shards(slices, place, extractor, through.append))
    assert together == alone
    assert sum(through) == slices.num_photos == 11
    assert sum(len(report.quarantined) for report in together) == 2
    again = list(extract_shards(reversed(slices), place, extractor))
    assert again == alone[::-1]


def test_the_next_slice_is_read_before_the_last_is_written(ground: Ground) -> None:
    """And no earlier than it is needed: another process may take it."""
    extractor = extractor_of(read_detector(ground.folder / "detector"))
    asked: list[int] = []

    def asking() -> Iterator[Slice]:
        for each in Slices(ground.sources, 2):
            asked.append(each.key.number)
            yield each

    reports = extract_shards(asking(), Place(ground.folder / "out"), extractor)
    first = next(reports)
    assert first.number == 0
    assert 0 < max(asked) < 4
    reports.close()


def test_photos_of_all_kinds_of_collections_are_extracted(ground: Ground) -> None:
    photos = {source.image_id: Path(source.path).read_bytes() for source in ground.sources}
    whole = {name: content for name, content in photos.items() if content != b"no photo"}
    lay_tar(ground.folder / "x.tar", photos)
    lay_table(ground.folder / "x.tsv", whole)
    lay_parquet(ground.folder / "x.parquet", photos)
    extractor = extractor_of(read_detector(ground.folder / "detector"), workers=2, batch_size=2)
    in_files = extract_shard(Slices(ground.sources, 10)[0], Place(ground.folder / "f"), extractor)
    for name in ("x.tar", "x.tsv", "x.parquet"):
        found = photos_in(Collection(place=ground.folder / name))
        stretch = Slices([each for each in found if isinstance(each, ImageSource)], 10)[0]
        report = extract_shard(stretch, Place(ground.folder / name.replace(".", "-")), extractor)
        assert (report.entry.rows, report.num_regions) == (9, in_files.num_regions)
        assert len(report.quarantined) == len(stretch.photos) - 9


def test_a_store_that_does_not_answer_ends_the_work_and_sets_nothing_aside(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fsspec.filesystem("memory")
    monkeypatch.setattr("storage.photo_files._WAIT_SECONDS", 0.0)
    photos = {source.image_id: Path(source.path).read_bytes() for source in ground.sources}
    for name, content in photos.items():
        store.pipe(f"/far/{name}.png", content)
    found = photos_in(Collection(place="memory://far"))
    slices = Slices([each for each in found if isinstance(each, ImageSource)], 4)
    extractor = extractor_of(read_detector(ground.folder / "detector"), workers=2, batch_size=2)
    place = Place(ground.folder / "remote")
    read, answers = type(store).cat_file, 6

    def fails(self: object, path: str, *arguments: object, **named: object) -> bytes:
        nonlocal answers
        answers -= 1
        if answers < 0:
            raise ConnectionError("the line is dead")
        return read(self, path, *arguments, **named)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(type(store), "cat_file", fails)
            with pytest.raises(SourceError, match="the line is dead"):
                list(extract_shards(slices, place, extractor))
        assert place.names() in ([], ["regions-00000.parquet"])
        reports = list(extract_shards(slices, place, extractor))
        assert [report.entry.rows for report in reports] == [4, 3, 2]
        store.rm(f"/far/{slices[0].photos[0].image_id}.png")
        (ground.folder / "remote/regions-00000.parquet").unlink()
        (dropped,) = extract_shard(slices[0], place, extractor).quarantined
        assert dropped.reason == "unreadable"
    finally:
        store.rm("/far", recursive=True)


def with_bright_photos(ground: Ground, bright: set[int]) -> Extractor:
    """Photos of one size, all but some of them without contrast, and a network of 16 bits."""
    model = read_detector(ground.folder / "detector").model
    for number, source in enumerate(ground.sources):
        pixels = np.broadcast_to(np.round(model.config.pixel_mean[::-1]), (48, 64, 3))
        shown = photo(48, 64, seed=number) if number in bright else pixels.astype(np.uint8)
        Image.fromarray(shown).save(source.path, format="png")
    with torch.no_grad():
        model.trunk.stem.conv1.weight.mul_(TOO_LARGE)
    single = extractor_of(read_detector(ground.folder / "detector"))
    return replace(single, engine=TorchEngine(model, "cpu", torch.float16), batch_size=3)


def test_a_photo_whose_numbers_run_over_is_set_aside_alone(tmp_path: Path) -> None:
    ground = Ground(tmp_path, 6, damaged=None)
    extractor = with_bright_photos(ground, {1})
    place = Place(tmp_path / "out")
    report = extract_shard(Slices(ground.sources, 6)[0], place, extractor)
    assert report.entry.rows == 5
    [dropped] = report.quarantined
    assert (dropped.image_id, dropped.reason) == (ground.sources[1].image_id, "not-finite")
    assert "too large for 16 bits" in dropped.detail
    last = list(extract_shards(Slices(ground.sources[:2], 1), place, extractor))
    assert [each.entry.rows for each in last] == [1, 0]


def test_weights_whose_numbers_always_run_over_end_the_work(tmp_path: Path) -> None:
    ground = Ground(tmp_path, 3, damaged=None)
    extractor = with_bright_photos(ground, {0, 1, 2})
    place = Place(tmp_path / "out")
    with pytest.raises(NotFiniteError, match=r"none of 3 photos can be seen: .*-0': the"):
        extract_shard(Slices(ground.sources, 3)[0], place, extractor)
    assert place.names() == []
