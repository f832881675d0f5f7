"""COCO boxes: `instances_train2017.json` and files in its layout.

`{"images": [{"id", "file_name", "width", "height"}], "annotations": [{"id", "image_id",
"category_id", "bbox": [x, y, w, h], "iscrowd"}], "categories": [{"id", "name"}]}`. Category ids
have gaps. Masks are not read. Annotations CC BY 4.0, cocodataset.org.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from storage.annotations._boxes import BoxList
from storage.annotations._coco import image_of, read_images
from storage.annotations._rows import (
    BrokenRowError,
    Rows,
    list_of,
    member,
    named,
    read_object,
    text_of,
    whole_number,
)
from storage.records import Annotations

SOURCE = "coco_instances"


def read(path: Path, *, namespace: str = "coco", split: str = "auto") -> Annotations:
    """Read all boxes; an image without boxes gives a record of none.

    Args:
        path: the JSON file.
        namespace: first part of image ids.
        split: of every image.

    Raises:
        MissingFileError: There is no such file.
        AnnotationError: It is not in this layout.
    """
    content = read_object(path)
    rows = Rows(path, namespace=namespace, split=split, language="en", source=SOURCE)
    images = read_images(path, content, rows, with_sizes=True)
    categories = _categories(path, content, rows)
    lists = {
        image.image_id: BoxList(image.image_id, height=image.size.height, width=image.size.width)
        for image in images.values()
    }
    for row in list_of(path, content, "annotations"):
        number = named(row, "id")
        with rows.taking(f"annotation {number}") as place:
            place.image_id = image_of(row, images).image_id
            class_name = _class_name(row, categories)
            rows.check_new(f"annotation {text_of(row, 'id')}")
            cut = lists[place.image_id].add(
                member(row, "bbox"), class_name, is_crowd=bool(row.get("iscrowd", 0))
            )
            if cut:
                rows.drop(place.image_id, "box-clipped", f"annotation {number}: {cut}")
    objects = tuple(boxes.objects(split=split, source=SOURCE) for boxes in lists.values())
    return replace(rows.annotations(), objects=objects)


def _categories(path: Path, content: Mapping[str, Any], rows: Rows) -> dict[int, str]:
    """Category id -> name."""
    names: dict[int, str] = {}
    for row in list_of(path, content, "categories"):
        with rows.taking(f"category {named(row, 'id')}"):
            number = whole_number(row, "id")
            rows.check_new(f"category {number}")
            names[number] = rows.cleaned(member(row, "name"), "name")
    return names


def _class_name(row: object, categories: Mapping[int, str]) -> str:
    number = whole_number(row, "category_id")
    if number not in categories:
        raise BrokenRowError("unknown-category", f"category {number} is not defined in the file")
    return categories[number]
