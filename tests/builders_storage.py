"""Small records of every stored kind, and a comparison that knows arrays."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from storage.records import ImageRegions, ImageTags
from storage.region_slices import RegionSettings
from storage.region_slices import write_regions as write_all_regions

CLASS_NAMES = ("dog", "帽子", "tree", "car")
ATTRIBUTE_NAMES = ("red", "striped", "大")


def make_regions(
    image_id: str = "photos/1", *, num: int = 3, width: int = 8, slots: int = 2, seed: int = 0
) -> ImageRegions:
    """Regions of one image with every slot filled; `seed` varies the numbers."""
    draw = np.random.default_rng([seed, num])
    class_ids = draw.integers(1, 1 + len(CLASS_NAMES), num).astype(np.int16)
    attribute_ids = draw.integers(1, 1 + len(ATTRIBUTE_NAMES), (num, slots)).astype(np.int16)
    return ImageRegions(
        image_id=image_id,
        content_hash=f"{seed:064x}",
        height=48,
        width=64,
        boxes=draw.uniform(0, 40, (num, 4)).astype(np.float32),
        features=draw.normal(size=(num, width)).astype(np.float16),
        class_ids=class_ids,
        confidences=draw.uniform(0, 1, num).astype(np.float32),
        attribute_ids=attribute_ids,
        attribute_scores=draw.uniform(0, 1, (num, slots)).astype(np.float32),
        class_names=tuple(CLASS_NAMES[number - 1] for number in class_ids),
        attribute_names=tuple(
            tuple(ATTRIBUTE_NAMES[number - 1] for number in row) for row in attribute_ids
        ),
    )


def many_regions(
    num_images: int, *, width: int = 8, namespace: str = "photos"
) -> list[ImageRegions]:
    """Different regions for images `photos/0`, `photos/1`, ...; the numbers of regions vary."""
    return [
        make_regions(f"{namespace}/{number}", num=number % 5, width=width, seed=number)
        for number in range(num_images)
    ]


def make_tags(regions: ImageRegions, language: str = "zh") -> ImageTags:
    """The names of the regions as if they were their translation."""
    return ImageTags(
        image_id=regions.image_id,
        tags=regions.class_names,
        attributes=regions.attribute_names,
        language=language,
    )


def write_regions(
    place: str | Path, records: list[ImageRegions], *, rows_per_shard: int = 4, **settings: Any
) -> None:
    """A complete folder of shards."""
    own = RegionSettings(**{"detector": "d1", "feature_width": 8, **settings})
    write_all_regions(place, records, own, rows_per_shard=rows_per_shard)


def same(first: object, second: object) -> bool:
    """Whether two records hold equal values, arrays of equal dtype and shape."""
    for field in fields(first):  # type: ignore[arg-type]
        a, b = getattr(first, field.name), getattr(second, field.name)
        if isinstance(a, np.ndarray):
            if a.dtype != b.dtype or a.shape != b.shape or not np.array_equal(a, b):
                return False
        elif a != b:
            return False
    return type(first) is type(second)


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, hidden ones too."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
