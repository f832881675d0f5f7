from dataclasses import replace
from pathlib import Path

import pytest
import torch

from detector.preprocess import normalise
from detector.training.batches import Batches
from detector.training.config import DetectorTraining
from detector.training.photos import TrainingPhotos
from detector.training.train import hold_still
from storage.published.label_maps import label_map_of
from tests.builders_detector import tiny_config, tiny_model
from tests.builders_scenes import block_photos

LABELS = label_map_of(["box", "bar"], ["red", "blue"])
TRAINING = DetectorTraining(num_steps=4, images_per_step=2, frozen_stages=2)


def photos_in(folder: Path, num: int = 7) -> TrainingPhotos:
    sources, objects = block_photos(folder, num)
    return TrainingPhotos(sources, objects, LABELS, tiny_config(), cache_bytes=1 << 20)


def test_portrait_and_landscape_never_share_a_batch(tmp_path: Path) -> None:
    batches = Batches(photos_in(tmp_path), tiny_model(), TRAINING)
    for step in range(12):
        assert len({h >= w for h, w in batches.at(step).sizes}) == 1


def test_truth_follows_the_mirrored_pixels(tmp_path: Path) -> None:
    photos = photos_in(tmp_path)
    always = Batches(photos, tiny_model(), replace(TRAINING, flip_probability=1.0)).at(0)
    never = Batches(photos, tiny_model(), replace(TRAINING, flip_probability=0.0)).at(0)
    assert torch.equal(always.inputs.flip(3), never.inputs)
    for flipped, plain, size in zip(always.truths, never.truths, never.sizes, strict=True):
        assert torch.equal(flipped.flipped(size[1]).boxes, plain.boxes)


def test_kept_maps_are_those_of_the_frozen_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, model = photos_in(tmp_path), tiny_model()
    training = replace(TRAINING, cache_trunk=True)
    hold_still(model, training)
    cached = Batches(photos, model, training)
    assert cached.first_part == 2
    plain = Batches(photos, model, TRAINING)
    for step in range(8):
        pixels = plain.at(step).inputs
        with torch.no_grad():
            for part in model.trunk.parts()[:2]:
                pixels = part(pixels)
        torch.testing.assert_close(cached.at(step).inputs, pixels)
    monkeypatch.setattr(photos, "pixels", lambda number: pytest.fail("read again"))
    assert len(cached.at(0).inputs) == len(cached.at(1).inputs) > 0


def test_maps_of_unequal_photos_are_padded(tmp_path: Path) -> None:
    photos = photos_in(tmp_path)
    training = replace(TRAINING, group_by_aspect=False, flip_probability=0.0, images_per_step=7)
    batch = Batches(photos, tiny_model(), training).at(0)
    assert batch.inputs.shape[2:] == (85, 85)
    for image, (height, width) in zip(batch.inputs, batch.sizes, strict=True):
        assert not image[:, height:].any()
        assert not image[:, :, width:].any()
    first = normalise(photos.pixels(0), photos.config)
    assert any(torch.equal(i[:, : first.shape[1], : first.shape[2]], first) for i in batch.inputs)
