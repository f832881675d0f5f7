"""What padding changes: regions of trained detectors on photos with zeros at the right and below.

python -m benchmarks padding DETECTOR PHOTOS [--photos N] [--json FILE]

DETECTOR is a folder or a published file, PHOTOS a folder of pictures. Each photo is seen by itself
by the exact engine: as it is, padded to whole cells (what `pad_batches` does), and padded by whole
cells beyond that on both sides. `noise` is the photo unpadded, with pixels off by at most one grey
level: what changes by so little was never sure.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from benchmarks.figure import Figure, machine
from detector.boxes import overlap
from detector.checkpoints import read_detector
from detector.engine import Engine
from detector.engines import prepare
from detector.preprocess import ModelImages, resize, to_batch, whole_cells
from detector.see import Detections, see
from storage.images import decode, list_images

SAME_BOX = 0.9  # overlap from which on two regions are one
SURE = 0.2  # score from which on VinVL's rules take a region
EXTRA_CELLS = (0, 1, 2, 4, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """One photo, changed in one way.

    padding: share of the pixels computed that are padding
    agree:   of each region, whether it is found again
    sure:    the same of those with a score of at least `SURE`
    cosines: of the features of the same boxes
    """

    padding: float
    agree: list[float]
    sure: list[float]
    cosines: list[float]


def main(arguments: Sequence[str]) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks padding")
    parser.add_argument("detector", type=Path)
    parser.add_argument("photos_folder", type=Path, metavar="photos")
    parser.add_argument("--photos", type=int, default=16, help="most that are looked at")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    chosen = parser.parse_args(arguments)
    print(machine(), flush=True)
    sources, _ = list_images(chosen.photos_folder, "photos")
    some = sources[:: max(1, len(sources) // chosen.photos)][: chosen.photos]
    engine = prepare(read_detector(chosen.detector).model)
    figures = list(changes(engine, [decode(source).pixels for source in some]))
    for figure in figures:
        print(figure)
    if chosen.json:
        chosen.json.write_text(json.dumps([each.as_dict() for each in figures], indent=1))
    return 0


def changes(
    engine: Engine, photos: Sequence["np.ndarray[tuple[int, ...], np.dtype[np.uint8]]"]
) -> Iterator[Figure]:
    """Figures of each way to change photos (H, W, 3) uint8 RGB."""
    found: dict[str, list[_Change]] = {}
    noise = np.random.default_rng(0)
    for photo in photos:
        plain = to_batch([resize(photo, engine.config)], [photo.shape[:2]], engine.config)
        noisy = (photo + noise.integers(-1, 2, photo.shape)).clip(0, 255).astype(np.uint8)
        ways = {f"cells+{more}": _padded(plain, engine, more) for more in EXTRA_CELLS}
        ways["noise"] = to_batch([resize(noisy, engine.config)], [photo.shape[:2]], engine.config)
        (wanted,) = see(engine, plain)
        for name, images in ways.items():
            found.setdefault(name, []).append(_change(engine, plain, wanted, images))
    for name, each in found.items():
        yield _figure(f"{name}.padding", [one.padding for one in each])
        yield _figure(f"{name}.agreeing", [value for one in each for value in one.agree])
        yield _figure(f"{name}.agreeing_sure", [value for one in each for value in one.sure])
        cosines = [value for one in each for value in one.cosines]
        yield _figure(f"{name}.cosine", cosines)
        yield _figure(f"{name}.cosine_least", [min(cosines)])


def _padded(plain: ModelImages, engine: Engine, more: int) -> ModelImages:
    """Zeros to whole cells, and so many cells more, at the right and below."""
    height, width = plain.sizes[0]
    down, across = whole_cells(height, width, engine.config)
    extra = more * engine.config.anchor_stride
    pixels = functional.pad(plain.pixels, (0, across + extra - width, 0, down + extra - height))
    return ModelImages(pixels=pixels, sizes=plain.sizes, original_sizes=plain.original_sizes)


@torch.inference_mode()
def _change(engine: Engine, plain: ModelImages, wanted: Detections, images: ModelImages) -> _Change:
    """What a change of the input changes."""
    (found,) = see(engine, images)
    is_same = overlap(wanted.boxes, found.boxes) > SAME_BOX
    is_same &= wanted.class_ids[:, None] == found.class_ids
    agree = is_same.any(dim=1).float()
    features = [
        engine.region_features(engine.trunk(each.pixels), [wanted.boxes])
        for each in (plain, images)
    ]
    return _Change(
        padding=1 - plain.pixels.numel() / images.pixels.numel(),
        agree=agree.tolist(),
        sure=agree[wanted.scores >= SURE].tolist(),
        cosines=functional.cosine_similarity(*features, dim=1).tolist(),
    )


def _figure(name: str, values: Sequence[float]) -> Figure:
    return Figure(
        name=f"padding.{name}",
        value=float(np.mean(values)) if len(values) else float("nan"),
        unit="share" if "cosine" not in name else "",
        n=len(values),
        spread=float(np.ptp(values)) if len(values) else 0.0,
    )
