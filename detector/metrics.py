"""Detection scores: COCO's twelve numbers (pycocotools) and Visual Genome AP.

COCO boxes are x, y, width, height; Visual Genome boxes x1, y1, x2, y2 with x2 and y2 inside.
This module needs no torch.
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COCO_STATISTICS = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large"),
)
"""The twelve numbers in the order of COCOeval.stats; -1 where undefined."""

SKIPPED_CLASSES = ("__background__", "__no_attribute__")

CocoTable = Mapping[str, Sequence[Mapping[str, object]]]


class DetectionInputError(Exception):
    """Boxes, labels and scores that do not belong together, or ids nobody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoDetectionScores:
    """COCO box scores as fractions; -1 where undefined.

    statistics:         `COCO_STATISTICS` -> value
    ap_by_iou:          AP at IoU .50, .55, ... .95 (all areas, last entry of max_detections)
    ap50_by_category:   category id -> AP50; the one id -1 where classes are ignored
    recall_by_category: category id -> largest recall at each of these ten thresholds
    """

    statistics: dict[str, float]
    ap_by_iou: tuple[float, ...]
    ap50_by_category: dict[int, float]
    recall_by_category: dict[int, tuple[float, ...]]


def coco_detection_scores(
    ground_truth: CocoTable,
    detections: Sequence[Mapping[str, object]],
    *,
    use_categories: bool = True,
    max_detections: tuple[int, ...] = (1, 10, 100),
) -> CocoDetectionScores:
    """Score boxes with pycocotools; no detection at all scores 0 instead of failing.

    Args:
        ground_truth: COCO form: `images`, `categories`, `annotations` with `bbox`, `area`,
            `iscrowd`.
        detections: `{"image_id", "category_id", "bbox", "score"}` each; equal scores keep their
            order.
        use_categories: False matches boxes of any class.
        max_detections: Per image; without 100 among them pycocotools gives -1 for `ap`.

    Raises:
        DetectionInputError: A detection of an unknown image or without box and score.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    _check_detections(ground_truth, detections)
    truth, found = COCO(), COCO()
    truth.dataset = {key: [dict(row) for row in rows] for key, rows in ground_truth.items()}
    found.dataset = {
        "images": truth.dataset["images"],
        "categories": truth.dataset["categories"],
        "annotations": [_result_row(n, row) for n, row in enumerate(detections, start=1)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.params.useCats = int(use_categories)
        evaluation.params.maxDets = list(max_detections)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # IoU, recall, category
    recall = evaluation.eval["recall"][:, :, 0, -1]  # IoU, category
    categories = evaluation.params.catIds if use_categories else [-1]
    return CocoDetectionScores(
        statistics=dict(zip(COCO_STATISTICS, map(float, evaluation.stats), strict=True)),
        ap_by_iou=tuple(_mean_defined(at_iou) for at_iou in precision),
        ap50_by_category={
            int(category): _mean_defined(precision[0, :, k])
            for k, category in enumerate(categories)
        },
        recall_by_category={
            int(category): tuple(float(value) for value in recall[:, k])
            for k, category in enumerate(categories)
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueBoxes:
    """True boxes of one image; M boxes, A attribute slots.

    boxes: (M, 4); labels: (M,) 1..; attributes: (M, A) 1.., 0 an empty slot
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    attributes: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundBoxes:
    """Detections of one image, resized to its original size; N boxes, K attributes each.

    boxes: (N, 4); labels, scores: (N,); attribute_labels, attribute_scores: (N, K), score 0 empty
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    attribute_labels: NDArray[np.int64]
    attribute_scores: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class VisualGenomeScores:
    """AP per class (label map order, index 0 left out) and its two means, fractions.

    ap:           class name -> AP; 0 for a class without true or without found boxes
    num_true:     class name -> true boxes
    mean_ap:      plain mean over all classes
    weighted_ap:  mean weighted by true boxes
    """

    ap: dict[str, float]
    num_true: dict[str, int]
    mean_ap: float
    weighted_ap: float


def visual_genome_scores(
    truth: Sequence[TrueBoxes],
    found: Sequence[FoundBoxes],
    classes: Sequence[str],
    *,
    of_attributes: bool = False,
    iou_threshold: float = 0.5,
    use_eleven_points: bool = False,
) -> VisualGenomeScores:
    """AP of objects or attributes as VinVL reports it.

    A true box is matched by at most one detection, at an overlap strictly above the threshold. An
    image without any detection is left out together with its true boxes. Attributes: every
    (box, attribute) with a score is a detection of its own, the object label is ignored. Equal
    scores keep their order (the original leaves it open).

    Raises:
        DetectionInputError: Another number of images found than true, or no class.

    Source: scene_graph_benchmark vg_eval.py:eval_detection_voc.
    """
    if len(truth) != len(found):
        raise DetectionInputError(f"{len(truth)} images with true boxes, {len(found)} with found")
    pairs = [(t, f) for t, f in zip(truth, found, strict=True) if len(f.boxes)]
    ap: dict[str, float] = {}
    num_true: dict[str, int] = {}
    for label, name in enumerate(classes):
        if name in SKIPPED_CLASSES:
            continue
        true_boxes = [_true_of_class(t, label, of_attributes) for t, _ in pairs]
        num_true[name] = sum(map(len, true_boxes))
        hits = _hits(
            true_boxes,
            [_found_of_class(f, label, of_attributes) for _, f in pairs],
            iou_threshold,
        )
        ap[name] = _average_precision(hits, num_true[name], use_eleven_points)
    if not ap:
        raise DetectionInputError("no class to score")
    total = sum(num_true.values())
    return VisualGenomeScores(
        ap=ap,
        num_true=num_true,
        mean_ap=sum(ap.values()) / len(ap),
        weighted_ap=sum(ap[n] * num_true[n] for n in ap) / total if total else 0.0,
    )


def _check_detections(ground_truth: CocoTable, detections: Sequence[Mapping[str, object]]) -> None:
    for key in ("images", "categories", "annotations"):
        if key not in ground_truth:
            raise DetectionInputError(f"ground truth: key {key!r} is missing")
    known = {row["id"] for row in ground_truth["images"]}
    for number, row in enumerate(detections):
        if not {"image_id", "category_id", "bbox", "score"} <= row.keys():
            raise DetectionInputError(
                f"detection {number}: needs image_id, category_id, bbox and score"
            )
        if row["image_id"] not in known:
            raise DetectionInputError(f"detection {number}: unknown image {row['image_id']!r}")


def _result_row(number: int, row: Mapping[str, object]) -> dict[str, object]:
    box = [float(side) for side in _floats(row["bbox"])]
    if len(box) != 4:
        raise DetectionInputError(f"detection {number - 1}: bbox needs 4 numbers")
    return {**row, "bbox": box, "area": box[2] * box[3], "id": number, "iscrowd": 0}


def _floats(value: object) -> list[float]:
    return [float(side) for side in np.asarray(value, dtype=np.float64).ravel()]


def _mean_defined(values: NDArray[np.float64]) -> float:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else -1.0


def _true_of_class(truth: TrueBoxes, label: int, of_attributes: bool) -> NDArray[np.float64]:
    chosen = (truth.attributes == label).any(axis=1) if of_attributes else truth.labels == label
    boxes: NDArray[np.float64] = truth.boxes[chosen]
    return boxes


def _found_of_class(
    found: FoundBoxes, label: int, of_attributes: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes and scores of the detections of one class, in the order they came."""
    if of_attributes:
        rows, slots = np.nonzero((found.attribute_labels == label) & (found.attribute_scores != 0))
        return found.boxes[rows], found.attribute_scores[rows, slots]
    chosen = found.labels == label
    return found.boxes[chosen], found.scores[chosen]


def _hits(
    true_boxes: Sequence[NDArray[np.float64]],
    found: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
    iou_threshold: float,
) -> NDArray[np.bool_]:
    """For all detections by falling score: is it the first to match its best true box?"""
    images = [image for image, (boxes, _) in enumerate(found) for _ in boxes]
    if not images:
        return np.zeros(0, dtype=np.bool_)
    boxes = np.concatenate([boxes for boxes, _ in found])
    scores = np.concatenate([scores for _, scores in found])
    is_taken = [np.zeros(len(boxes_of_image), dtype=np.bool_) for boxes_of_image in true_boxes]
    hits = np.zeros(len(boxes), dtype=np.bool_)
    for place, row in enumerate(np.argsort(-scores, kind="stable")):
        image = images[row]
        if len(true_boxes[image]) == 0:
            continue
        overlaps = _overlaps(boxes[row], true_boxes[image])
        best = int(np.argmax(overlaps))
        if overlaps[best] > iou_threshold and not is_taken[image][best]:
            is_taken[image][best] = hits[place] = True
    return hits


def _overlaps(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of one inclusive box with each of the others."""
    corner = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]) + 1.0
    shared = np.maximum(corner, 0.0).prod(axis=1)
    area = (box[2:] - box[:2] + 1.0).prod()
    areas = (others[:, 2:] - others[:, :2] + 1.0).prod(axis=1)
    result: NDArray[np.float64] = shared / (area + areas - shared)
    return result


def _average_precision(hits: NDArray[np.bool_], num_true: int, use_eleven_points: bool) -> float:
    """Area under the falling envelope of precision over recall, or its mean at 11 recalls."""
    if num_true == 0 or len(hits) == 0:
        return 0.0
    true_positives = np.cumsum(hits)
    recall = true_positives / num_true
    precision = true_positives / np.arange(1, len(hits) + 1)
    if use_eleven_points:
        return sum(
            float(precision[recall >= level].max(initial=0.0)) / 11.0
            for level in np.arange(0.0, 1.1, 0.1)
        )
    envelope = np.maximum.accumulate(np.append(precision, 0.0)[::-1])[::-1]
    steps = np.diff(np.concatenate(([0.0], recall, [1.0])))
    return float((steps * envelope).sum())
