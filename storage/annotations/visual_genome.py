"""Visual Genome v1.2 boxes with attributes: `objects.json`, `attributes.json`, `image_data.json`.

objects:    `[{"image_id", "objects": [{"object_id", "x", "y", "w", "h", "names"}]}]`
            an object of v1.2 also lists the `merged_object_ids` it took the place of
attributes: `[{"image_id", "attributes": [{"object_id", "attributes": [...]}]}]`, joined by object
image data: `[{"image_id", "width", "height"}]`
Photos are named by their number. Of several names the first counts. CC BY 4.0, visualgenome.org.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from storage.annotations._boxes import BoxList
from storage.annotations._rows import (
    BrokenRowError,
    Rows,
    Size,
    member,
    named,
    read_list,
    size_of_photo,
    text_of,
    whole_number,
)
from storage.records import Annotations

SOURCE = "visual_genome"


def read(
    objects: Path,
    *,
    image_data: Path,
    attributes: Path | None = None,
    namespace: str = "visual_genome",
    split: str = "auto",
) -> Annotations:
    """Read all boxes and join the attributes to them; names in lower case.

    Args:
        objects: `objects.json`.
        image_data: `image_data.json`, which has the sizes.
        attributes: `attributes.json`; without it no box has attributes.
        namespace: first part of image ids.
        split: of every image.

    Raises:
        MissingFileError: A file does not exist.
        AnnotationError: A file is not in this layout.
    """
    rows = Rows(objects, namespace=namespace, split=split, language="en", source=SOURCE)
    sizes = _sizes(image_data, rows)
    words = {} if attributes is None else _attributes(attributes, rows)
    records = []
    for image in read_list(objects):
        with rows.taking(f"image {named(image, 'image_id')}") as place:
            place.image_id = rows.image_id(text_of(image, "image_id"))
            rows.check_new(place.image_id)
            number = whole_number(image, "image_id")
            if number not in sizes:
                raise BrokenRowError("unknown-image", f"its size is not in {image_data.name}")
            size = sizes[number]
            boxes = BoxList(place.image_id, height=size.height, width=size.width)
            for row in _rows_of(image, "objects"):
                _add(row, boxes, words, rows)
            records.append(boxes.objects(split=split, source=SOURCE))
    return replace(rows.annotations(), objects=tuple(records))


def _add(row: object, boxes: BoxList, words: Mapping[int, tuple[str, ...]], rows: Rows) -> None:
    """Take one object, or set it aside."""
    with rows.taking(f"object {named(row, 'object_id')}") as place:
        place.image_id = boxes.image_id
        number = whole_number(row, "object_id")
        names = member(row, "names")
        if not isinstance(names, list) or not names:
            raise BrokenRowError("bad-row", "'names' must be a list with a name")
        class_name = rows.cleaned(names[0], "name").lower()
        rows.check_new(f"object {boxes.image_id} {number}")
        xywh = [member(row, key) for key in ("x", "y", "w", "h")]
        merged = row.get("merged_object_ids") if isinstance(row, dict) else None
        known = [number, *(merged if isinstance(merged, list) else [])]
        attributes = dict.fromkeys(
            word for each in known if isinstance(each, int) for word in words.get(each, ())
        )
        cut = boxes.add(xywh, class_name, attributes=tuple(attributes))
        if cut:
            rows.drop(boxes.image_id, "box-clipped", f"object {number}: {cut}")


def _sizes(path: Path, rows: Rows) -> dict[int, Size]:
    """Image number -> size."""
    sizes: dict[int, Size] = {}
    for row in read_list(path):
        with rows.taking(f"{path.name}: image {named(row, 'image_id')}"):
            sizes[whole_number(row, "image_id")] = size_of_photo(row)
    return sizes


def _attributes(path: Path, rows: Rows) -> dict[int, tuple[str, ...]]:
    """Object number -> attribute words, each once, in the file's order."""
    words: dict[int, tuple[str, ...]] = {}
    for image in read_list(path):
        with rows.taking(f"{path.name}: image {named(image, 'image_id')}"):
            for row in _rows_of(image, "attributes"):
                with rows.taking(f"{path.name}: object {named(row, 'object_id')}"):
                    number = whole_number(row, "object_id")
                    found = row.get("attributes") or []
                    if not isinstance(found, list):
                        raise BrokenRowError("bad-row", "'attributes' must be a list")
                    cleaned = [rows.cleaned(word, "attribute").lower() for word in found]
                    words[number] = tuple(dict.fromkeys((*words.get(number, ()), *cleaned)))
    return words


def _rows_of(image: object, key: str) -> Iterator[Any]:
    found = member(image, key)
    if not isinstance(found, list):
        raise BrokenRowError("bad-row", f"{key!r} must be a list")
    return iter(found)
