"""Fast engines against the exact one on a trained detector: same regions, features, scores?

python -m benchmarks fast_agreement DETECTOR PHOTOS [--annotations FOLDER] [--split test]
    [--engines NAME ...] [--photos N] [--json FILE]

DETECTOR is a folder or a published file, PHOTOS a folder of pictures. With the annotations of a run
(`RUN/collect_annotations-*/annotations`) its boxes judge every engine, photos joined by the name of
their file. Ranges for 8 bits are measured on photos that are not judged; `openvino-int8-everywhere`
is the engine `openvino-int8` with all blocks in 8 bits, whatever calibration would choose.
`exact-noise` is the exact engine on photos whose pixels are off by at most one grey level, as those
of another JPEG decoder are: what changes by so little was never sure.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from benchmarks.figure import Figure, machine
from detector.checkpoints import read_detector
from detector.detect import detect
from detector.engine import Engine
from detector.engines import prepare
from detector.engines.calibrate import NUM_PHOTOS, calibrate
from detector.engines.ranges import LEAST_LIKENESS, Ranges
from detector.evaluate import box_overlaps, score_boxes
from detector.loaded import LoadedDetector
from detector.preprocess import to_model_images
from detector.see import search
from storage.annotation_shards import read_annotations
from storage.images import decode, list_images
from storage.records import DecodedImage, ImageObjects, ImageRegions, ImageSource

SAME_BOX = 0.9  # overlap from which on two regions are one
SURE = 0.2  # confidence from which on VinVL's rules take a region
_IN_8_BITS = "openvino-int8"
_EVERYWHERE = "openvino-int8-everywhere"
_NOISE = "exact-noise"
ENGINES = (_NOISE, "openvino-f32", "openvino-bf16", _IN_8_BITS, _EVERYWHERE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What one engine saw; seconds are of the processor, for all photos."""

    regions: list[ImageRegions]
    seconds: float


def main(arguments: Sequence[str]) -> int:
    """Measure and print the table."""
    chosen = _parser().parse_args(arguments)
    print(machine(), flush=True)
    sources, _ = list_images(chosen.photos_folder, "photos")
    truth: list[ImageObjects] = []
    if chosen.annotations:
        objects = read_annotations(chosen.annotations).objects
        truth = [each for each in objects if each.split == chosen.split]
    judged, others = _divide(sources, truth, chosen.photos)
    figures = []
    for figure in agreement(
        read_detector(chosen.detector),
        [decode(source) for source in judged],
        [decode(source) for source in others],
        truth,
        chosen.engines,
    ):
        print(figure, flush=True)
        figures.append(figure)
    if chosen.json:
        chosen.json.write_text(json.dumps([each.as_dict() for each in figures], indent=1))
    return 0


def agreement(
    loaded: LoadedDetector,
    photos: Sequence[DecodedImage],
    calibration: Sequence[DecodedImage],
    truth: Sequence[ImageObjects],
    engines: Sequence[str],
) -> Iterator[Figure]:
    """Figures of each engine beside the exact one, as they are found.

    Args:
        loaded: The detector.
        photos: That are judged; ids as in `truth`.
        calibration: That ranges are measured on.
        truth: True boxes of some of the photos, or nothing.
        engines: Names of fast engines.
    """
    exact = prepare(loaded.model)
    expected = _seen(exact, loaded, photos)
    yield _figure("exact.seconds", [expected.seconds / len(photos)], "s", len(photos))
    yield from _scores("exact", expected, photos, truth)
    for name in engines:
        ranges, told = _ranges(name, loaded, calibration)
        shown, engine = photos, exact
        if name == _NOISE:
            shown = [_noisy(photo) for photo in photos]
        else:
            kind = _IN_8_BITS if ranges else name
            engine = prepare(loaded.model, "fast", engine=kind, ranges=ranges)
        found = _seen(engine, loaded, shown)
        agree = [_agreeing(*pair) for pair in zip(expected.regions, found.regions, strict=True)]
        shares = [float(each.mean()) for each in agree if len(each)]
        sure = np.concatenate(agree)[_confidences(expected) >= SURE].astype(float).tolist()
        cosines = _likeness(exact, photos, engine, shown, loaded)
        yield from told
        yield _figure(f"{name}.seconds", [found.seconds / len(photos)], "s", len(photos))
        yield _figure(f"{name}.agreeing", shares, "share", len(shares))
        yield _figure(f"{name}.agreeing_sure", sure or [1.0], "share", len(sure))
        yield _figure(f"{name}.cosine", cosines, "mean", len(cosines))
        yield _figure(f"{name}.cosine_least", [min(cosines)], "", len(cosines))
        yield from _scores(name, found, photos, truth)


def _ranges(
    name: str, loaded: LoadedDetector, calibration: Sequence[DecodedImage]
) -> tuple[Ranges | None, list[Figure]]:
    """What an engine in 8 bits needs to know, and what to tell of it; None for other engines."""
    if name not in (_IN_8_BITS, _EVERYWHERE):
        return None, []
    least = 0.0 if name == _EVERYWHERE else LEAST_LIKENESS
    found = calibrate(loaded.model, calibration, least_likeness=least)
    num = len(calibration)
    return found, [
        _figure(f"{name}.share", [found.share], "in 8 bits", num),
        _figure(f"{name}.convolutions", [len(found.by_convolution)], "in 8 bits", num),
        _figure(f"{name}.likeness", [found.likeness], "judging", num),
        _figure(f"{name}.likeness_bf16", [found.likeness_bf16], "judging", num),
    ]


def _seen(engine: Engine, loaded: LoadedDetector, photos: Sequence[DecodedImage]) -> _Seen:
    """Regions of each photo by itself, after one unmeasured photo; the quicker of two rounds."""
    detect(engine, photos[:1], loaded.label_map)
    seconds = []
    for _ in range(2):
        start = time.process_time()
        regions = [detect(engine, [photo], loaded.label_map)[0] for photo in photos]
        seconds.append(time.process_time() - start)
    return _Seen(regions=regions, seconds=min(seconds))


def _noisy(photo: DecodedImage) -> DecodedImage:
    """The photo with -1, 0 or 1 added to every value; the same every time."""
    noise = np.random.default_rng(0).integers(-1, 2, photo.pixels.shape)
    return replace(photo, pixels=(photo.pixels + noise).clip(0, 255).astype(np.uint8))


def _agreeing(expected: ImageRegions, found: ImageRegions) -> NDArray[np.bool_]:
    """Which exact regions a fast one of the same class covers almost alike, (N,)."""
    is_same = box_overlaps(expected.boxes, found.boxes) > SAME_BOX
    is_same &= expected.class_ids[:, None] == found.class_ids
    return np.asarray(is_same.any(axis=1))


def _confidences(seen: _Seen) -> NDArray[np.float32]:
    """Of all regions of all photos."""
    return np.concatenate([each.confidences for each in seen.regions])


@torch.inference_mode()
def _likeness(
    exact: Engine,
    photos: Sequence[DecodedImage],
    engine: Engine,
    shown: Sequence[DecodedImage],
    loaded: LoadedDetector,
) -> list[float]:
    """Cosine of the features of the same boxes, exact against fast."""
    found: list[float] = []
    for photo, other in zip(photos, shown, strict=True):
        images = to_model_images([photo.pixels], loaded.model.config)
        others = to_model_images([other.pixels], loaded.model.config)
        c4 = exact.trunk(images.pixels)
        boxes = search(exact, c4, images.sizes)
        features = exact.region_features(c4, boxes)
        fast = engine.region_features(engine.trunk(others.pixels), boxes)
        found += functional.cosine_similarity(features, fast, dim=1).tolist()
    return found


def _scores(
    name: str, seen: _Seen, photos: Sequence[DecodedImage], truth: Sequence[ImageObjects]
) -> list[Figure]:
    """AP50 and mAP against the true boxes, where there are any."""
    ids = {photo.image_id for photo in photos}
    judged = [each for each in truth if each.image_id in ids]
    if not judged:
        return []
    scores = score_boxes(seen.regions, judged)
    return [
        _figure(f"{name}.ap50", [scores.ap50], "", len(judged)),
        _figure(f"{name}.map", [scores.map], "", len(judged)),
    ]


def _divide(
    sources: Sequence[ImageSource], truth: Sequence[ImageObjects], most: int
) -> tuple[list[ImageSource], list[ImageSource]]:
    """Photos to be judged, under the ids of the truth, and others for calibration."""
    id_by_name = {each.image_id.rpartition("/")[2]: each.image_id for each in truth}
    judged, others = [], []
    for source in sources:
        name = source.image_id.rpartition("/")[2]
        if name in id_by_name:
            judged.append(ImageSource(image_id=id_by_name[name], path=source.path))
        else:
            others.append(source)
    if not judged:
        judged, others = list(sources[::2]), list(sources[1::2])
    step = max(1, len(others) // NUM_PHOTOS)
    return judged[:: max(1, len(judged) // most)][:most], others[::step][:NUM_PHOTOS]


def _figure(name: str, values: Sequence[float], unit: str, n: int) -> Figure:
    return Figure(
        name=f"fast_agreement.{name}",
        value=float(np.mean(values)),
        unit=unit,
        n=n,
        spread=float(np.ptp(values)),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks fast_agreement")
    parser.add_argument("detector", type=Path)
    parser.add_argument("photos_folder", type=Path, metavar="photos")
    parser.add_argument("--annotations", type=Path, help="of a run; their boxes judge")
    parser.add_argument("--split", default="test")
    parser.add_argument("--engines", nargs="+", default=ENGINES)
    parser.add_argument("--photos", type=int, default=40, help="most that are judged")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    return parser
