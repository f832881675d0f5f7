"""What looking at the photos takes: one photo is looked at by a detector of the same shape."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from detector.checkpoints import read_detector
from detector.config import DetectorConfig, rules_of
from detector.loaded import check_named
from detector.model import AttributeRCNN
from detector.preprocess import to_model_images
from detector.see import see
from detector.trunk import build_res5
from flows.config import RunConfig
from flows.dry_run.records import NOT_MEASURED, Estimate, some
from flows.dry_run.stopwatch import device_here, how_measured, seconds_of, speed_up
from storage.errors import StorageError
from storage.images import decode
from storage.records import DecodedImage, ImageSource
from storage.sources import RemoteSource

NUM_PHOTOS = 3
LEARNING_FACTOR = 3
"""A step with gradients costs about three looks."""
_REGION_BYTES = 120
"""Box, names and attributes of a region in a shard, compressed; measured on the real photos."""
_ITEM_BYTES = {"float16": 2, "float32": 4}
_TRAINING_BYTES = 1.5 * 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one photo takes.

    seconds:        of looking at it; None where that was not measured
    feature_width:  D of its regions
    num_parameters: of the detector
    """

    seconds: float | None
    feature_width: int
    num_parameters: int


def network_of(config: RunConfig) -> DetectorConfig | None:
    """Shape of the detector that the run will use; None where there is none, or not here.

    Raises:
        DetectorError, StorageError: It is one that the run will refuse.
    """
    weights = config.detector_weights
    if weights is None:
        return config.train_detector.network() if config.train_detector is not None else None
    if isinstance(weights, RemoteSource) or not weights.exists():
        return None
    detector = read_detector(weights)
    check_named(detector, str(weights))
    return detector.model.config


def feature_width(network: DetectorConfig) -> int:
    """D of its regions."""
    with torch.device("meta"):
        return build_res5(network).width


def look(network: DetectorConfig, photos: Sequence[ImageSource]) -> Look:
    """Look at a few photos with new weights, after one unmeasured look."""
    device = device_here()
    model = AttributeRCNN(network).eval().to(device)
    pixels = [each.pixels for each in _decoded(photos[:NUM_PHOTOS])] or [_grey_noise()]
    seconds = [seconds_of(partial(_see, model, each, network)) for each in (pixels[0], *pixels)]
    return Look(
        seconds=min(seconds[1:]),
        feature_width=feature_width(network),
        num_parameters=sum(each.numel() for each in model.parameters()),
    )


def unmeasured(network: DetectorConfig) -> Look:
    """What is known without looking at a photo."""
    with torch.device("meta"):
        model = AttributeRCNN(network)
    return Look(
        seconds=None,
        feature_width=feature_width(network),
        num_parameters=sum(each.numel() for each in model.parameters()),
    )


def estimates(
    found: Look, network: DetectorConfig, num_photos: int, config: RunConfig
) -> Iterator[Estimate]:
    """Time and disk of the extraction, and of the detector's training if there is one."""
    workers = config.scale.workers * config.scale.nodes if config.scale.engine != "local" else 1
    measured = f"{how_measured(config, workers)}, new weights"
    how = NOT_MEASURED if found.seconds is None else measured
    weights = 4 * found.num_parameters
    if config.train_detector is not None and config.detector_weights is None:
        training = config.train_detector.training
        photos = training.num_steps * training.images_per_step
        looks = LEARNING_FACTOR * photos
        if training.cache_trunk:  # every photo and its mirror image once, then the heads
            looks = min(looks, 2 * num_photos + photos)
        # live statistics are those of a whole batch, which one process computes
        fellows = workers if config.scale.engine == "torchrun" and network.norm != "batch" else 1
        yield Estimate(
            step="train_detector",
            amount=f"{training.num_steps:,} steps of {training.images_per_step}",
            seconds=_lasting(looks / speed_up(config, fellows), found),
            memory_bytes=int(4 * weights + _TRAINING_BYTES),
            disk_bytes=4 * weights,
            how=f"{LEARNING_FACTOR} looks at each photo of a step, at most; {how}",
        )
    chosen = config.detect.rules
    rules = network.regions if chosen is None else rules_of(chosen)
    item = _ITEM_BYTES[config.detect.dtype]
    yield Estimate(
        step="detect",
        amount=f"{some(num_photos)} photos",
        seconds=_lasting(num_photos / speed_up(config, workers), found),
        memory_bytes=int(weights + 2**30),
        disk_bytes=num_photos * rules.max_regions * (found.feature_width * item + _REGION_BYTES),
        how=f"{how}; disk as if every photo had {rules.max_regions} regions",
    )


def _lasting(looks: float, found: Look) -> float | None:
    """Time of that many looks [seconds]."""
    return None if found.seconds is None else looks * found.seconds


def _see(model: AttributeRCNN, pixels: NDArray[np.uint8], network: DetectorConfig) -> None:
    see(model, to_model_images([pixels], network))


def _decoded(photos: Sequence[ImageSource]) -> Iterator[DecodedImage]:
    for photo in photos:
        try:
            yield decode(photo)
        except StorageError:
            continue


def _grey_noise() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
