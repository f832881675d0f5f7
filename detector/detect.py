"""Photos to `ImageRegions`: the detector as the rest of the house sees it.

Letters: B photos, N regions of one photo, D feature width, K attribute slots.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from detector.compat import Compat
from detector.config import RegionRules
from detector.constants import STAND_IN_ATTRIBUTE
from detector.engine import Engine
from detector.preprocess import ModelImages, to_model_images
from detector.see import Detections, see
from storage.records import DecodedImage, ImageRegions

if TYPE_CHECKING:
    from storage.published.label_maps import LabelMap


def detect(
    engine: Engine,
    images: Sequence[DecodedImage],
    label_map: "LabelMap",
    *,
    rules: RegionRules | None = None,
    compat: Compat | None = None,
) -> list[ImageRegions]:
    """See photos in one batch; regions come by falling confidence, boxes in original pixels.

    Photos whose network sizes differ are padded, which changes values near the padding: give one
    photo at a time, or photos of one size, for features that depend on the photo alone.

    Args:
        engine: What computes: a model in evaluation mode, or what `detector.engines` made of it.
        images: B photos.
        label_map: Names of the model's classes and attributes.
        rules: Which regions are kept; None takes the detector's own.
        compat: Quirks of the original; None for none.
    """
    if not images:
        return []
    batch = to_model_images([image.pixels for image in images], engine.config)
    return to_regions(see(engine, batch, rules=rules, compat=compat), batch, images, label_map)


def to_regions(
    detections: Sequence[Detections],
    batch: ModelImages,
    images: Sequence[DecodedImage],
    label_map: "LabelMap",
) -> list[ImageRegions]:
    """Detections of a batch as records, one per photo, by falling confidence (stable)."""
    return [
        regions_of(
            found,
            image_id=image.image_id,
            content_hash=image.content_hash,
            size=size,
            original_size=original_size,
            label_map=label_map,
        )
        for found, image, size, original_size in zip(
            detections, images, batch.sizes, batch.original_sizes, strict=True
        )
    ]


def regions_of(
    found: Detections,
    *,
    image_id: str,
    content_hash: str,
    size: tuple[int, int],
    original_size: tuple[int, int],
    label_map: "LabelMap",
) -> ImageRegions:
    """One photo's detections as a record.

    Args:
        found: N regions in any order.
        image_id: Of the photo.
        content_hash: Of the photo's file.
        size: Height and width of the network input [pixels].
        original_size: Height and width of the photo [pixels].
        label_map: Names of classes and attributes.
    """
    order = found.scores.argsort(descending=True, stable=True)
    class_ids = found.class_ids[order].numpy()
    attribute_ids = found.attributes.ids[order].numpy()
    attribute_scores = found.attributes.scores[order].numpy()
    if STAND_IN_ATTRIBUTE in label_map.attribute_names:
        attribute_ids, attribute_scores = attribute_ids * 0, attribute_scores * 0
    boxes = to_original_pixels(found.boxes[order], size, original_size)
    return ImageRegions(
        image_id=image_id,
        content_hash=content_hash,
        height=original_size[0],
        width=original_size[1],
        boxes=boxes.numpy().astype(np.float32, copy=False),
        features=found.features[order].numpy(),
        class_ids=class_ids.astype(np.int16),
        confidences=found.scores[order].numpy(),
        attribute_ids=attribute_ids.astype(np.int16),
        attribute_scores=attribute_scores,
        class_names=tuple(label_map.class_names[class_id] for class_id in class_ids.tolist()),
        attribute_names=tuple(
            tuple(label_map.attribute_names[number] for number in row if number)
            for row in attribute_ids.tolist()
        ),
    )


def to_original_pixels(
    boxes: Tensor, size: tuple[int, int], original_size: tuple[int, int]
) -> Tensor:
    """(N, 4) boxes of the network input -> of the photo; a plain ratio per axis.

    Source: `specs/detector.md` 7, "Rescaling"; maskrcnn-benchmark `BoxList.resize`.
    """
    down, across = (original / inside for original, inside in zip(original_size, size, strict=True))
    return boxes * torch.tensor((across, down, across, down), device=boxes.device)
