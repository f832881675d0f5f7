"""Shuffling inside windows of row groups: how near it comes to shuffling everything at once.

The published mixture of Mengzi-Oscar in our stored order: 0.22M images of 16 a row group, 0.704M
captions and 2.502M questions. Told of batches of 1024: the share of examples whose image the batch
holds once more, and against the plain shuffle (1x) the pairs of one row group, how far apart
neighbours lie in the store, and how the share of questions varies.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.figure import Figure
from oscar_core.task import Group
from oscar_core.training.order import shuffled

NUM_IMAGES = 222_000
NUM_CAPTIONS = 704_000
NUM_QUESTIONS = 2_502_000
IMAGES_PER_GROUP = 16
IMAGE_BYTES = 50 * 2048 * 2
BATCH = 1024
NUM_BATCHES = 200  # of a pass, evenly spread
SEEDS = (1, 2, 3)
WINDOWS = (16, 64, 256, 1024)
"""Row groups; 1024 is the default of pretraining."""


def measure() -> list[Figure]:
    """Windows against the plain shuffle, over three seeds."""
    draw = np.random.default_rng(0)
    images = np.concatenate(
        [np.sort(draw.integers(0, NUM_IMAGES, num)) for num in (NUM_CAPTIONS, NUM_QUESTIONS)]
    ).astype(np.int32)
    plain = [_Pass(images, window=0, seed=seed) for seed in SEEDS]
    figures = _alone("plain", plain)
    for window in WINDOWS:
        within = [_Pass(images, window=window, seed=seed) for seed in SEEDS]
        figures += _alone(f"window {window}", within)
        figures += _compared(f"window {window}", within, plain)
        size = window * IMAGES_PER_GROUP * IMAGE_BYTES / 1e9
        figures.append(
            Figure(name=f"open at once, window {window}", value=size, unit="GB", n=1, spread=0)
        )
    return figures


class _Pass:
    """One pass in its order, and what its batches hold."""

    def __init__(self, images: NDArray[np.int32], *, window: int, seed: int) -> None:
        places = images // IMAGES_PER_GROUP
        group = Group(indices=range(len(images)), places=places, window=window)
        start = time.perf_counter()
        order = shuffled(group, np.random.default_rng(seed))
        self.seconds = time.perf_counter() - start
        shown = images[order]
        starts = np.linspace(0, len(shown) - BATCH, NUM_BATCHES).astype(int)
        batches = [shown[first : first + BATCH] for first in starts]
        self.repeated = float(np.mean([1 - _alone_in(batch) for batch in batches]))
        self.same_group = _pairs([each // IMAGES_PER_GROUP for each in batches])
        self.distance = float(np.abs(np.diff(shown.astype(np.int64))).mean()) / NUM_IMAGES
        asked = [float((order[first : first + BATCH] >= NUM_CAPTIONS).mean()) for first in starts]
        self.kinds = statistics.pstdev(asked)


def _alone_in(batch: NDArray[np.int32]) -> float:
    """Share of numbers that occur once."""
    _, counts = np.unique(batch, return_counts=True)
    return float((counts == 1).sum()) / len(batch)


def _pairs(batches: list[NDArray[np.int32]]) -> float:
    """Pairs of equal numbers in a batch, on average."""
    found = 0
    for batch in batches:
        _, counts = np.unique(batch, return_counts=True)
        found += int((counts * (counts - 1) // 2).sum())
    return found / len(batches)


def _compared(name: str, within: list[_Pass], plain: list[_Pass]) -> list[Figure]:
    told: dict[str, Callable[[_Pass], float]] = {
        "pairs of one row group": lambda each: each.same_group,
        "distance of neighbours": lambda each: each.distance,
        "spread of questions in a batch": lambda each: each.kinds,
    }
    return [
        _figure(
            f"{what}, {name}",
            [take(one) / take(other) for one, other in zip(within, plain, strict=True)],
            "x",
        )
        for what, take in told.items()
    ]


def _alone(name: str, passes: list[_Pass]) -> list[Figure]:
    return [
        _figure(f"image met again in a batch, {name}", [each.repeated for each in passes], "share"),
        _figure(f"order of a pass, {name}", [each.seconds for each in passes], "s"),
    ]


def _figure(name: str, values: list[float], unit: str) -> Figure:
    return Figure(
        name=name,
        value=statistics.median(values),
        unit=unit,
        n=len(values),
        spread=max(values) - min(values),
    )
