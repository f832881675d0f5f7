"""How well detections meet the truth: average precision, and attributes family by family.

Letters: N detected regions of one image, G true objects of it.
Boxes as in `storage.records`: original pixels, x2 and y2 inside the box.
"""

import contextlib
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detector.errors import DetectorError
from storage.records import ImageObjects, ImageRegions

MATCH_OVERLAP = 0.5  # intersection over union at which a detection counts as the object


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxScores:
    """Precision over all classes that occur in the truth; fractions.

    ap50:       average precision at overlap 0.5
    map:        mean over overlaps 0.5, 0.55, ... 0.95
    recall_100: mean recall of the best 100 detections over the same overlaps
    """

    ap50: float
    map: float
    recall_100: float


def score_boxes(regions: Sequence[ImageRegions], objects: Sequence[ImageObjects]) -> BoxScores:
    """COCO's protocol, classes joined by name; crowd boxes absorb detections.

    Args:
        regions: Detections; images without truth are left out.
        objects: The truth; an image without detections counts with its misses.

    Raises:
        DetectorError: No true box at all, so that nothing can be measured.

    Source: pycocotools `cocoeval.py`, 100 detections an image.
    """
    if not any((~image.is_crowd).any() for image in objects):
        raise DetectorError("no true boxes to score against; give images with annotated boxes")
    number_by_image = {image.image_id: number for number, image in enumerate(objects, start=1)}
    names = {name for image in objects for name in image.class_names}
    names |= {name for image in regions for name in image.class_names}
    class_by_name = {name: number for number, name in enumerate(sorted(names), start=1)}
    skeleton: dict[str, list[dict[str, object]]] = {
        "images": [{"id": number} for number in number_by_image.values()],
        "categories": [{"id": number, "name": name} for name, number in class_by_name.items()],
    }
    truth = list(_true_rows(objects, number_by_image, class_by_name))
    found = list(_detected_rows(regions, number_by_image, class_by_name))
    if not found:
        return BoxScores(ap50=0.0, map=0.0, recall_100=0.0)
    # pycocotools reports to stdout at every step
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(
            _index(skeleton | {"annotations": truth}),
            _index(skeleton | {"annotations": found}),
            "bbox",
        )
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    average_precision, ap50, recall_100 = (float(evaluation.stats[i]) for i in (0, 1, 8))
    return BoxScores(ap50=ap50, map=average_precision, recall_100=recall_100)


def match_objects(regions: ImageRegions, objects: ImageObjects) -> dict[int, int]:
    """Which region stands for which true object; true index -> region index.

    By falling confidence each region takes the free true object of its own class that it overlaps
    most, if by at least 0.5. Crowd boxes are never taken.
    """
    overlaps = box_overlaps(objects.boxes, regions.boxes)
    same_class = np.array(objects.class_names, dtype=object)[:, None] == np.array(
        regions.class_names, dtype=object
    )
    eligible = np.where(same_class & ~objects.is_crowd[:, None], overlaps, 0.0)
    region_by_object: dict[int, int] = {}
    for region in np.argsort(-regions.confidences, kind="stable").tolist():
        free = [i for i in range(len(objects.boxes)) if i not in region_by_object]
        best = max(free, key=lambda i: float(eligible[i, region]), default=None)
        if best is not None and eligible[best, region] >= MATCH_OVERLAP:
            region_by_object[best] = region
    return region_by_object


def score_attributes(
    regions: Sequence[ImageRegions],
    objects: Sequence[ImageObjects],
    families: Mapping[str, Sequence[str]],
) -> dict[str, float]:
    """Of the objects that were found, the share whose attribute is named rightly, by family.

    An object counts in a family when it has a true attribute of it and was matched by a region
    (`match_objects`); it is right when the family's highest-scored attribute of that region is
    among the true ones. Two red balls, both found, one called blue: colour accuracy 0.5.

    Args:
        regions: Detections.
        objects: The truth.
        families: Attribute names of each family, e.g. {"colour": ("red", ...), ...}.

    Returns:
        `<family>_accuracy` for each family (0 where nothing was matched), their mean
        `attribute_accuracy`, and `matched`, the share of true objects that were found.
    """
    regions_by_image = {image.image_id: image for image in regions}
    verdicts: defaultdict[str, list[bool]] = defaultdict(list)
    num_objects = num_matched = 0
    for image in objects:
        num_objects += int((~image.is_crowd).sum())
        if image.image_id not in regions_by_image:
            continue
        detected = regions_by_image[image.image_id]
        region_by_object = match_objects(detected, image)
        num_matched += len(region_by_object)
        for object_index, region_index in region_by_object.items():
            for family, names in families.items():
                true = set(image.attributes[object_index]) & set(names)
                if true:
                    named = first_of_family(detected.attribute_names[region_index], names)
                    verdicts[family].append(named in true)
    scores = {
        f"{family}_accuracy": float(np.mean(verdicts[family])) if verdicts[family] else 0.0
        for family in families
    }
    if families:
        scores["attribute_accuracy"] = float(np.mean(list(scores.values())))
    scores["matched"] = num_matched / num_objects if num_objects else 0.0
    return scores


def first_of_family(attribute_names: Sequence[str], family: Sequence[str]) -> str | None:
    """The first name that belongs to the family; names come by falling score."""
    return next((name for name in attribute_names if name in family), None)


def evaluate_detector(
    regions: Sequence[ImageRegions],
    objects: Sequence[ImageObjects],
    families: Mapping[str, Sequence[str]],
) -> dict[str, float]:
    """All figures of a detector: `ap50`, `map`, `recall_100` and those of `score_attributes`.

    Raises:
        DetectorError: No true box at all.
    """
    boxes = score_boxes(regions, objects)
    return {
        "ap50": boxes.ap50,
        "map": boxes.map,
        "recall_100": boxes.recall_100,
    } | score_attributes(regions, objects, families)


def box_overlaps(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Intersection over union of (G, 4) and (N, 4) inclusive boxes, (G, N)."""
    a = first[:, None].astype(np.float64)
    b = second[None, :].astype(np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + 1
    shared = sides.clip(min=0).prod(axis=-1)
    areas = (a[..., 2:] - a[..., :2] + 1).prod(-1) + (b[..., 2:] - b[..., :2] + 1).prod(-1)
    overlaps: NDArray[np.float64] = shared / (areas - shared)
    return overlaps


def _true_rows(
    objects: Sequence[ImageObjects],
    number_by_image: Mapping[str, int],
    class_by_name: Mapping[str, int],
) -> Iterator[dict[str, object]]:
    for image in objects:
        for box, name, is_crowd in zip(image.boxes, image.class_names, image.is_crowd, strict=True):
            row = _row(number_by_image[image.image_id], box, class_by_name[name])
            yield row | {"iscrowd": int(is_crowd)}


def _detected_rows(
    regions: Sequence[ImageRegions],
    number_by_image: Mapping[str, int],
    class_by_name: Mapping[str, int],
) -> Iterator[dict[str, object]]:
    for image in regions:
        if image.image_id not in number_by_image:
            continue
        for box, name, confidence in zip(
            image.boxes, image.class_names, image.confidences, strict=True
        ):
            row = _row(number_by_image[image.image_id], box, class_by_name[name])
            yield row | {"score": float(confidence)}


def _row(image_number: int, box: NDArray[np.float32], class_number: int) -> dict[str, object]:
    x1, y1, x2, y2 = (float(value) for value in box)
    width, height = x2 - x1 + 1, y2 - y1 + 1
    return {
        "image_id": image_number,
        "category_id": class_number,
        "bbox": [x1, y1, width, height],
        "area": width * height,
    }


def _index(content: dict[str, list[dict[str, object]]]) -> COCO:
    """A COCO index without a file; annotations get ids from 1, as 0 means "no match"."""
    for number, row in enumerate(content["annotations"], start=1):
        row["id"] = number
        row.setdefault("iscrowd", 0)
    index = COCO()
    index.dataset = content
    index.createIndex()
    return index
