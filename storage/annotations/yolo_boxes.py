"""Boxes in YOLO's text layout: `<photo>.txt`, one box a line, beside a list of classes.

`class cx cy w h`: position of the class in the list from 0, then the centre and the size of the
box as fractions of the photo's width and height. The list is a text file of one name a line
(`coco.names`), COCO's JSON of `{"id", "name"}`, or a COCO `instances` file, whose `categories` are
taken in their order. Crowds are not marked.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from storage.annotations._boxes import BoxList
from storage.annotations._lines import lines_of
from storage.annotations._rows import BrokenRowError, Rows, list_of, read_list, text_of
from storage.errors import AnnotationError, MissingFileError, UnreadableImageError
from storage.images import list_images, size_of
from storage.json_files import read_json
from storage.records import Annotations, ImageObjects

SOURCE = "yolo_boxes"


def read(
    labels: Path,
    *,
    photos: Path,
    classes: Path,
    namespace: str = "coco",
    split: str = "auto",
) -> Annotations:
    """Read the boxes of all photos that have a file of them; an empty file is a photo of none.

    Args:
        labels: folder of the text files.
        photos: folder of the photos, whose sizes the boxes refer to.
        classes: list of the class names.
        namespace: first part of image ids.
        split: of every photo.

    Raises:
        MissingFileError: A folder or the list does not exist, or the folder has no text files.
        AnnotationError: The list cannot be read.
    """
    if not labels.is_dir():
        raise MissingFileError(f"{labels}: no such folder")
    files = sorted(labels.glob("*.txt"))
    if not files:
        raise MissingFileError(f"{labels}: no text files in this folder")
    names = _names(classes)
    listed = (Path(source.path) for source in list_images(photos, "")[0])
    paths = {path.stem: path for path in listed}
    rows = Rows(labels, namespace=namespace, split=split, language="en", source=SOURCE)
    objects: list[ImageObjects] = []
    for path in files:
        with rows.taking(path.name) as place:
            place.image_id = rows.image_id(f"{path.stem}.jpg")
            boxes = _sized(place.image_id, path.stem, paths)
            _read_boxes(path, boxes, names, rows)
            objects.append(boxes.objects(split=split, source=SOURCE))
    return replace(rows.annotations(), objects=tuple(objects))


def _sized(image_id: str, stem: str, paths: Mapping[str, Path]) -> BoxList:
    """An empty list of boxes for a photo.

    Raises:
        BrokenRowError: There is no such photo, or it cannot be read.
    """
    if stem not in paths:
        raise BrokenRowError("unknown-image", f"no photo {stem!r} in the folder of photos")
    try:
        height, width = size_of(paths[stem])
    except UnreadableImageError as error:
        raise BrokenRowError(error.reason, error.detail) from error
    return BoxList(image_id, height=height, width=width)


def _read_boxes(path: Path, boxes: BoxList, names: tuple[str, ...], rows: Rows) -> None:
    """Take the boxes of one file."""
    if not path.read_bytes().strip():
        return
    in_file = Rows(path, namespace="", split="", language="", source="")
    try:
        for number, line in lines_of(path, in_file):
            with in_file.taking(f"line {number}") as place:
                place.image_id = boxes.image_id
                name, xywh = _box(line, names, boxes)
                cut = boxes.add(xywh, name)
                if cut:
                    in_file.drop(boxes.image_id, "box-clipped", f"line {number}: {cut}")
    except AnnotationError as error:
        raise BrokenRowError("not-utf8", "not a text file in UTF-8") from error
    rows.quarantined += in_file.quarantined


def _box(line: str, names: tuple[str, ...], boxes: BoxList) -> tuple[str, list[float]]:
    """Class name and x, y, width, height in pixels.

    Raises:
        BrokenRowError: Not five numbers, or no such class.
    """
    try:
        first, *numbers = line.split()
        number = int(first)
        cx, cy, width, height = map(float, numbers)
    except ValueError as error:
        raise BrokenRowError("bad-row", f"must be class cx cy w h, not {line[:60]!r}") from error
    if not 0 <= number < len(names):
        raise BrokenRowError("unknown-category", f"class {number} is not in the list of classes")
    wide, high = width * boxes.width, height * boxes.height
    return names[number], [cx * boxes.width - wide / 2, cy * boxes.height - high / 2, wide, high]


def _entries(path: Path) -> list[Any]:
    """The objects of a JSON file that name one class each."""
    content = read_json(path, AnnotationError)
    if isinstance(content, dict):
        return list_of(path, content, "categories")
    return read_list(path)


def _names(path: Path) -> tuple[str, ...]:
    """Class names in their order.

    Raises:
        AnnotationError: A name occurs twice, or an entry of the JSON has none.
    """
    rows = Rows(path, namespace="", split="", language="", source="")
    if path.suffix == ".json":
        names = []
        for entry in _entries(path):
            with rows.taking("an entry"):
                names.append(text_of(entry, "name").strip())
    else:
        names = [line.strip() for _, line in lines_of(path, rows)]
    if rows.quarantined:
        raise AnnotationError(f"{path}: {rows.quarantined[0].detail.partition(': ')[2]}")
    if len(set(names)) != len(names):
        raise AnnotationError(f"{path}: a class name occurs twice")
    return tuple(names)
