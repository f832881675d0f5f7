"""Regions that can be written as tables and read back, and a label map of their names."""

from dataclasses import replace

import numpy as np

from storage.published.label_maps import LabelMap, label_map_of
from storage.published.vinvl_tables import TableRow
from storage.records import WIDTH_FIRST, ImageRegions
from tests.builders_storage import ATTRIBUTE_NAMES, CLASS_NAMES, make_regions

LABEL_MAP: LabelMap = label_map_of(CLASS_NAMES, ATTRIBUTE_NAMES)


def inside(regions: ImageRegions) -> ImageRegions:
    """The same regions with corners in order and no photo's bytes to know them by."""
    x, y = np.sort(regions.boxes[:, 0::2]), np.sort(regions.boxes[:, 1::2])
    boxes = np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)
    scores = -np.sort(-regions.attribute_scores)
    return replace(regions, boxes=boxes, attribute_scores=scores, content_hash="")


def some_regions(num_images: int = 4, *, width: int = 8) -> list[ImageRegions]:
    """Images `coco/1`, `coco/2`, ... of one to `num_images` regions."""
    return [
        inside(make_regions(f"coco/{num}", num=num, width=width, seed=num))
        for num in range(1, num_images + 1)
    ]


def table_row(regions: ImageRegions, order: str = WIDTH_FIRST) -> TableRow:
    """The row of an image, its box numbers computed here in plain words."""
    x1, y1, x2, y2 = regions.boxes.astype(np.float32).T
    width, height = np.float32(regions.width), np.float32(regions.height)
    extent = [(x2 - x1) / width, (y2 - y1) / height]
    numbers = [x1 / width, y1 / height, x2 / width, y2 / height]
    numbers += extent if order == WIDTH_FIRST else extent[::-1]
    appearance = regions.features.astype(np.float32)
    return TableRow(
        key=regions.image_id.rpartition("/")[2],
        regions=regions,
        inputs=np.concatenate([appearance, np.stack(numbers, axis=1)], axis=1),
        width=appearance.shape[1],
    )
