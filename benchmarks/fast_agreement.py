"""Fast engines against the exact one on a trained detector: same regions, features, scores?

python -m benchmarks fast_agreement DETECTOR PHOTOS [--annotations FOLDER] [--split test]
    [--engines NAME ...] [--photos N] [--json FILE]

DETECTOR is a folder or a published file, PHOTOS a folder of pictures. With the annotations of a run
(`RUN/collect_annotations-*/annotations`) its boxes judge every engine, photos joined by the name of
their file. Ranges for 8 bits are measured on photos that are not judged.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from benchmarks.figure import Figure, machine
from detector.checkpoints import read_detector
from detector.detect import detect
from detector.engine import Engine
from detector.engines import prepare
from detector.engines.calibrate import NUM_PHOTOS, calibrate
from detector.evaluate import box_overlaps, score_boxes
from detector.loaded import LoadedDetector
from detector.preprocess import to_model_images
from detector.see import search
from storage.annotation_shards import read_annotations
from storage.images import decode, list_images
from storage.records import DecodedImage, ImageObjects, ImageRegions, ImageSource

SAME_BOX = 0.9  # overlap from which on two regions are one
ENGINES = ("openvino-f32", "openvino-bf16", "openvino-int8")


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
    figures = agreement(
        read_detector(chosen.detector),
        [decode(source) for source in judged],
        [decode(source) for source in others],
        truth,
        chosen.engines,
    )
    for figure in figures:
        print(figure, flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps([each.as_dict() for each in figures], indent=1))
    return 0


def agreement(
    loaded: LoadedDetector,
    photos: Sequence[DecodedImage],
    calibration: Sequence[DecodedImage],
    truth: Sequence[ImageObjects],
    engines: Sequence[str],
) -> list[Figure]:
    """Figures of each engine beside the exact one.

    Args:
        loaded: The detector.
        photos: That are judged; ids as in `truth`.
        calibration: That ranges are measured on.
        truth: True boxes of some of the photos, or nothing.
        engines: Names of fast engines.
    """
    ranges = calibrate(loaded.model, calibration)
    exact = prepare(loaded.model)
    expected = _seen(exact, loaded, photos)
    figures = [_figure("exact.seconds", [expected.seconds / len(photos)], "s", len(photos))]
    figures += _scores("exact", expected, photos, truth)
    for name in engines:
        engine = prepare(loaded.model, "fast", engine=name, ranges=ranges)
        found = _seen(engine, loaded, photos)
        shares = [_agreeing(*pair) for pair in zip(expected.regions, found.regions, strict=True)]
        cosines = _likeness(exact, engine, loaded, photos)
        figures += [
            _figure(f"{name}.seconds", [found.seconds / len(photos)], "s", len(photos)),
            _figure(f"{name}.agreeing", shares, "share", len(shares)),
            _figure(f"{name}.cosine", cosines, "mean", len(cosines)),
            _figure(f"{name}.cosine_least", [min(cosines)], "", len(cosines)),
            *_scores(name, found, photos, truth),
        ]
    return figures


def _seen(engine: Engine, loaded: LoadedDetector, photos: Sequence[DecodedImage]) -> _Seen:
    """Regions of each photo by itself, after one unmeasured photo."""
    detect(engine, photos[:1], loaded.label_map)
    start = time.process_time()
    regions = [detect(engine, [photo], loaded.label_map)[0] for photo in photos]
    return _Seen(regions=regions, seconds=time.process_time() - start)


def _agreeing(expected: ImageRegions, found: ImageRegions) -> float:
    """Share of the exact regions that a fast one of the same class covers almost alike."""
    is_same = box_overlaps(expected.boxes, found.boxes) > SAME_BOX
    is_same &= expected.class_ids[:, None] == found.class_ids
    return float(is_same.any(axis=1).mean()) if len(expected.boxes) else 1.0


@torch.inference_mode()
def _likeness(
    exact: Engine, engine: Engine, loaded: LoadedDetector, photos: Sequence[DecodedImage]
) -> list[float]:
    """Cosine of the features of the same boxes, exact against fast."""
    found: list[float] = []
    for photo in photos:
        images = to_model_images([photo.pixels], loaded.model.config)
        c4 = exact.trunk(images.pixels)
        boxes = search(exact, c4, images.sizes)
        features = exact.region_features(c4, boxes)
        others = engine.region_features(engine.trunk(images.pixels), boxes)
        found += functional.cosine_similarity(features, others, dim=1).tolist()
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
