"""What VinVL's program tells of a detector: average precision of classes and of attributes.

Attributes are judged on the true boxes, so that they do not depend on what was found. How they are
counted is in `detector.metrics`; boxes are in original pixels, x2 and y2 inside the box.
Source: `specs/metrics.md` 15; scene_graph_benchmark `engine/inference.py`, `vg_eval.py`.
"""

from collections.abc import Sequence

import numpy as np
import torch

from detector.constants import STAND_IN_ATTRIBUTE
from detector.detect import regions_of
from detector.engine import Engine
from detector.metrics import FoundBoxes, TrueBoxes, visual_genome_scores
from detector.preprocess import to_model_images
from detector.see import see
from detector.training.photos import ATTRIBUTE_SLOTS
from storage.published.label_maps import LabelMap
from storage.records import DecodedImage, ImageObjects, ImageRegions


def class_figures(
    regions: Sequence[ImageRegions], objects: Sequence[ImageObjects], label_map: LabelMap
) -> dict[str, float]:
    """`vg_map50` over all classes, and `vg_weighted_map50`, weighted by their true boxes.

    Args:
        regions: Detections of each image.
        objects: Its true objects; those of classes that the detector does not know are left out.
        label_map: Of the detector.
    """
    scores = visual_genome_scores(
        [_true(image, label_map) for image in objects],
        [_found(image) for image in regions],
        label_map.class_names,
    )
    return {"vg_map50": scores.mean_ap, "vg_weighted_map50": scores.weighted_ap}


def attribute_figures(
    named: Sequence[ImageRegions], objects: Sequence[ImageObjects], label_map: LabelMap
) -> dict[str, float]:
    """`vg_attribute_map50` over all attributes, and the same weighted; nothing without any.

    Args:
        named: What the detector says of the true boxes (`name_true_boxes`).
        objects: Those.
        label_map: Of the detector.
    """
    if STAND_IN_ATTRIBUTE in label_map.attribute_names:
        return {}
    scores = visual_genome_scores(
        [_true(image, label_map) for image in objects],
        [_found(image) for image in named],
        label_map.attribute_names,
        of_attributes=True,
    )
    return {
        "vg_attribute_map50": scores.mean_ap,
        "vg_attribute_weighted_map50": scores.weighted_ap,
    }


def name_true_boxes(
    engine: Engine, image: DecodedImage, objects: ImageObjects, label_map: LabelMap
) -> ImageRegions:
    """Class and attributes of the true boxes of one photo, by falling confidence.

    Args:
        engine: In evaluation mode.
        image: The photo.
        objects: What it shows.
        label_map: Of the detector.
    """
    batch = to_model_images([image.pixels], engine.config)
    (size,), (original_size,) = batch.sizes, batch.original_sizes
    down, across = (inside / original for inside, original in zip(size, original_size, strict=True))
    boxes = torch.from_numpy(objects.boxes[~objects.is_crowd]).float()
    forced = boxes * torch.tensor((across, down, across, down))
    (found,) = see(engine, batch, forced_boxes=[forced.to(engine.device)])
    return regions_of(
        found,
        image_id=image.image_id,
        content_hash=image.content_hash,
        size=size,
        original_size=original_size,
        label_map=label_map,
    )


def _true(image: ImageObjects, label_map: LabelMap) -> TrueBoxes:
    """True boxes of known classes, with the attributes the original has room for."""
    kept, labels = [], []
    attributes = np.zeros((len(image.boxes), ATTRIBUTE_SLOTS), dtype=np.int64)
    for number, (name, named) in enumerate(zip(image.class_names, image.attributes, strict=True)):
        label = label_map.class_id(name)
        if label is None or image.is_crowd[number]:
            continue
        known = dict.fromkeys(label_map.attribute_id(each) for each in named)
        ids = [each for each in known if each is not None][:ATTRIBUTE_SLOTS]
        attributes[number, : len(ids)] = ids
        kept.append(number)
        labels.append(label)
    return TrueBoxes(
        boxes=image.boxes[kept].astype(np.float64).reshape(-1, 4),
        labels=np.array(labels, dtype=np.int64),
        attributes=attributes[kept],
    )


def _found(image: ImageRegions) -> FoundBoxes:
    return FoundBoxes(
        boxes=image.boxes.astype(np.float64),
        labels=image.class_ids.astype(np.int64),
        scores=image.confidences.astype(np.float64),
        attribute_labels=image.attribute_ids.astype(np.int64),
        attribute_scores=image.attribute_scores.astype(np.float64),
    )
