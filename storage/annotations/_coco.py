"""The image table that COCO's caption and instance files share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.annotations._rows import (
    BrokenRowError,
    Rows,
    Size,
    list_of,
    named,
    size_of_photo,
    text_of,
    whole_number,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoImage:
    """One image of the table."""

    image_id: str
    size: Size


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
            size = size_of_photo(row) if with_sizes else Size()
            images[number] = CocoImage(image_id=place.image_id, size=size)
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
