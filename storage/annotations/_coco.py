"""The image table that COCO's caption and instance files share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.annotations._rows import BrokenRowError, Rows, list_of, named, text_of, whole_number


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoImage:
    """One image; height and width are 0 where they were not asked for [pixels]."""

    image_id: str
    height: int
    width: int


def read_images(
    path: Path, content: Mapping[str, Any], rows: Rows, *, with_sizes: bool = False
) -> dict[int, CocoImage]:
    """Number -> image; a repeated or broken row is set aside.

    Raises:
        AnnotationError: There is no table.
    """
    images: dict[int, CocoImage] = {}
    for row in list_of(path, content, "images"):
        with rows.taking(f"image {named(row, 'id')}") as place:
            place.image_id = rows.image_id(text_of(row, "file_name"))
            number = whole_number(row, "id")
            rows.check_new(f"image {number}")
            rows.check_new(f"file {place.image_id}")
            height = whole_number(row, "height") if with_sizes else 0
            width = whole_number(row, "width") if with_sizes else 0
            if with_sizes and min(height, width) < 1:
                raise BrokenRowError("bad-size", f"size {width}x{height} is not one of a photo")
            images[number] = CocoImage(image_id=place.image_id, height=height, width=width)
    return images


def image_of(row: object, images: Mapping[int, CocoImage]) -> CocoImage:
    """The image an annotation speaks of.

    Raises:
        BrokenRowError: It is not in the table.
    """
    number = whole_number(row, "image_id")
    if number not in images:
        raise BrokenRowError("unknown-image", f"image {number} is not in the file's list of images")
    return images[number]
