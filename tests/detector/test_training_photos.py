from pathlib import Path

import numpy as np
import pytest
import torch

from detector.config import DetectorConfig
from detector.errors import DetectorError
from detector.training.photos import TrainingPhotos, label_map_from, truth_of
from storage.errors import UnreadableImageError
from storage.published.label_maps import label_map_of
from tests.builders_detector import tiny_config
from tests.builders_scenes import block_objects, block_photos, write_photo

LABELS = label_map_of(["box", "bar"], ["red", "blue"])


def read(folder: Path, *shown, config: DetectorConfig | None = None, **options) -> TrainingPhotos:
    sources = [write_photo(folder, each) for each in shown]
    options = {"cache_bytes": 1 << 20} | options
    return TrainingPhotos(sources, shown, LABELS, config or tiny_config(), **options)


def test_boxes_are_moved_to_the_resized_photo(tmp_path: Path) -> None:
    shown = block_objects("blocks/1", [(10, 4, 29, 13)], size=(32, 48))
    photos = read(tmp_path, shown)
    assert photos.photos[0].size == (64, 96)
    assert photos.photos[0].truth.boxes.tolist() == [[20, 8, 58, 26]]
    assert photos.photos[0].truth.class_ids.tolist() == [2]
    assert photos.photos[0].truth.attributes[0].tolist() == [1] + [0] * 15


def test_crowds_unknown_classes_and_slivers_are_left_out() -> None:
    crowd = block_objects("blocks/1", [(1, 1, 9, 9)], is_crowd=True)
    assert len(truth_of(crowd, LABELS, (48, 64)).boxes) == 0
    shown = block_objects("blocks/1", [(1, 1, 9, 9), (2, 2, 30, 8), (5, 5, 5.2, 4.3)])
    assert truth_of(shown, label_map_of(["box"], ["red"]), (48, 64)).class_ids.tolist() == [1]


def test_attributes_beyond_the_slots_and_unknown_ones_are_dropped() -> None:
    names = [f"a{number}" for number in range(20)]
    shown = block_objects("blocks/1", [(1, 1, 9, 9)])
    named = shown.__class__(
        **{f: getattr(shown, f) for f in shown.__slots__ if f != "attributes"},
        attributes=(("unknown", "a3", "a3", *names),),
    )
    slots = truth_of(named, label_map_of(["box"], names), (48, 64)).attributes[0]
    assert slots.tolist() == [4, 1, 2, 3, *range(5, 17)]


def test_a_damaged_photo_and_one_of_another_size_are_set_aside(tmp_path: Path) -> None:
    whole, cut, other = (block_objects(f"blocks/{n}", [(1, 1, 9, 9)]) for n in "123")
    sources = [write_photo(tmp_path, each) for each in (whole, cut, other)]
    sources[1].path.write_bytes(sources[1].path.read_bytes()[:60])
    wrong = block_objects("blocks/3", [(1, 1, 9, 9)], size=(50, 64))
    photos = TrainingPhotos(
        sources, [whole, cut, wrong], LABELS, tiny_config(), cache_bytes=1 << 20, workers=1
    )
    assert [photo.source.image_id for photo in photos.photos] == ["blocks/1"]
    assert [(q.image_id, q.reason) for q in photos.quarantined] == [
        ("blocks/2", "truncated"),
        ("blocks/3", "size-mismatch"),
    ]
    assert "64 x 48 pixels, its boxes were drawn on 64 x 50" in photos.quarantined[1].detail


def test_what_does_not_stay_in_memory_is_set_aside_when_it_cannot_be_read(tmp_path: Path) -> None:
    whole, cut, other = (block_objects(f"blocks/{n}", [(1, 1, 9, 9)]) for n in "123")
    sources = [write_photo(tmp_path, each) for each in (whole, cut, other)]
    sources[1].path.write_bytes(sources[1].path.read_bytes()[:60])
    wrong = block_objects("blocks/3", [(1, 1, 9, 9)], size=(50, 64))
    photos = TrainingPhotos(sources, [whole, cut, wrong], LABELS, tiny_config(), cache_bytes=0)
    assert (len(photos), photos.quarantined, photos.num_unusable) == (3, [], 0)
    assert not photos.are_in_memory
    for number in (2, 1):
        with pytest.raises(UnreadableImageError) as caught:
            photos.pixels(number)
        photos.set_aside(number, caught.value)
    assert [each.reason for each in photos.quarantined] == ["truncated", "size-mismatch"]


def test_pixels_beyond_the_bound_are_read_again(tmp_path: Path) -> None:
    shown = [block_objects(f"blocks/{n}", [(n, 1, 9 + n, 9)]) for n in range(3)]
    kept = read(tmp_path, *shown)
    one = kept.pixels(0).nbytes
    bounded = read(tmp_path, *shown, cache_bytes=one)
    for number in range(3):
        assert np.array_equal(kept.pixels(number), bounded.pixels(number))
    (tmp_path / "blocks-0.png").unlink()
    (tmp_path / "blocks-1.png").unlink()
    assert bounded.pixels(0).nbytes == one
    with pytest.raises(Exception, match=r"blocks-1\.png"):
        bounded.pixels(1)


def test_nothing_to_learn_from_is_said(tmp_path: Path) -> None:
    sources, objects = block_photos(tmp_path, 2)
    with pytest.raises(DetectorError, match=r"no photo to train .* 2 images .* 0 photos, 0 in"):
        TrainingPhotos([], objects, LABELS, tiny_config(), cache_bytes=0)
    with pytest.raises(DetectorError, match="1 photos, 0 in both"):
        TrainingPhotos(sources[:1], objects[1:], LABELS, tiny_config(), cache_bytes=0)


def test_label_map_goes_by_frequency_then_name() -> None:
    shown = [
        block_objects("blocks/1", [(1, 1, 20, 9), (1, 20, 30, 26)], colours=["red"]),
        block_objects("blocks/2", [(1, 1, 9, 9)], colours=["blue"]),
    ]
    found = label_map_from(shown)
    assert found.class_names[1:] == ("bar", "box")
    assert found.attribute_names[1:] == ("red", "blue")
    nothing = block_objects("blocks/2", [])
    assert len(label_map_from([nothing]).attribute_names) == 2


def test_flipping_twice_gives_the_truth_back() -> None:
    truth = truth_of(block_objects("blocks/1", [(3, 1, 9, 9)]), LABELS, (48, 64))
    assert truth.flipped(64).boxes.tolist() == [[54, 1, 60, 9]]
    assert torch.equal(truth.flipped(64).flipped(64).boxes, truth.boxes)
