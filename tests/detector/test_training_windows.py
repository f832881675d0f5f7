from pathlib import Path

import pytest
import torch

from detector.errors import DetectorConfigError
from detector.preprocess import normalise
from detector.training.config import CropWarmup
from detector.training.photos import TrainingPhotos
from detector.training.windows import plan_windows, window_losses
from storage.published.label_maps import label_map_of
from tests.builders_detector import tiny_config, tiny_model
from tests.builders_scenes import block_objects, write_photo

LABELS = label_map_of(["box", "bar"], ["red", "blue"])
WARMUP = CropWarmup(num_steps=4, window_sizes=(16, 48), windows_per_step=(3, 2), jitter_pixels=0)
SMALL, WIDE = (10, 20, 19, 29), (30, 10, 59, 21)


def photos_of(folder: Path, *blocks: tuple[int, int, int, int]) -> TrainingPhotos:
    shown = block_objects("blocks/1", blocks, size=(64, 96))
    source = write_photo(folder, shown)
    return TrainingPhotos([source], [shown], LABELS, tiny_config(), cache_bytes=1 << 20)


def test_an_object_goes_to_the_smallest_window_that_holds_it(tmp_path: Path) -> None:
    photos = photos_of(tmp_path, SMALL, WIDE, (0, 0, 79, 9))
    plan = plan_windows(photos, WARMUP, seed=0)
    assert plan.places == {16: [(0, 0)], 48: [(0, 1), (0, 2)]}


def test_sizes_nobody_needs_take_no_turn(tmp_path: Path) -> None:
    plan = plan_windows(photos_of(tmp_path, WIDE), WARMUP, seed=0)
    assert list(plan.places) == [48]


def test_the_box_in_the_window_shows_the_same_pixels(tmp_path: Path) -> None:
    photos = photos_of(tmp_path, SMALL)
    whole = normalise(photos.pixels(0), photos.config)
    inside = whole[:, SMALL[1] : SMALL[3] + 1, SMALL[0] : SMALL[2] + 1]
    warmup = CropWarmup(num_steps=4, window_sizes=(16,), windows_per_step=(6,), jitter_pixels=3)
    for step in range(4):
        windows = plan_windows(photos, warmup, seed=1).cut(photos, step)
        for window, box in zip(windows.pixels, windows.boxes.int().tolist(), strict=True):
            found = window[:, box[1] : box[3] + 1, box[0] : box[2] + 1]
            assert torch.equal(found, inside) or torch.equal(found.flip(2), inside)


def test_a_window_larger_than_the_photo_is_filled_with_zeros(tmp_path: Path) -> None:
    photos = photos_of(tmp_path, (0, 0, 95, 9))
    warmup = CropWarmup(num_steps=1, window_sizes=(128,), windows_per_step=(1,), jitter_pixels=4)
    windows = plan_windows(photos, warmup, seed=0).cut(photos, 0)
    assert windows.pixels.shape == (1, 3, 128, 128)
    assert windows.boxes.tolist() == [[16, 32, 111, 41]]
    assert not windows.pixels[0, :, :32].any()
    assert not windows.pixels[0, :, :, 112:].any()


def test_a_step_is_the_same_each_time_it_is_asked_for(tmp_path: Path) -> None:
    photos = photos_of(tmp_path, SMALL, WIDE)
    first, again = (plan_windows(photos, CropWarmup(), seed=3).cut(photos, 5) for _ in "ab")
    assert torch.equal(first.pixels, again.pixels)
    assert torch.equal(first.boxes, again.boxes)


def test_windows_teach_all_but_the_search(tmp_path: Path) -> None:
    photos = photos_of(tmp_path, SMALL, WIDE)
    model = tiny_model(num_classes=3, num_attributes=3).train()
    windows = plan_windows(photos, WARMUP, seed=0).cut(photos, 1)
    classifier, attribute = window_losses(model, windows, 1.0)
    (classifier + attribute).backward()
    untouched = {name for name, weight in model.named_parameters() if weight.grad is None}
    assert untouched == {
        name for name, _ in model.named_parameters() if name.startswith(("rpn", "box_head.box"))
    }


def test_window_sizes_and_batches_go_together() -> None:
    with pytest.raises(DetectorConfigError, match="one length"):
        CropWarmup(window_sizes=(64,), windows_per_step=(8, 8))
    with pytest.raises(DetectorConfigError, match="ascend"):
        CropWarmup(window_sizes=(96, 64))
