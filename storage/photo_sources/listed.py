"""Photos of a folder that a list names: a text file, one path a line, or COCO's JSON."""

import os
from collections.abc import Iterator
from pathlib import Path

from storage.errors import AnnotationError
from storage.json_stream import elements_of
from storage.photo_files import open_file
from storage.photo_sources.found import (
    Found,
    inside_problem,
    set_aside,
    under_name,
    without_ending,
)
from storage.records import ImageSource

_LINE_BYTES = 1 << 16
_BOM = b"\xef\xbb\xbf"


def lines_photos(listing: Path, folder: Path | str, namespace: str) -> Iterator[Found]:
    """Photos of a text file, one path a line: below the folder, or the whole path of one in it.

    An image id is `namespace/path below the folder without extension`.

    Args:
        listing: UTF-8; empty lines are left out.
        folder: where the photos are; a text is a URL.
        namespace: of the collection; "" for none.

    Yields:
        Photos, and lines that name none (`missing-file`, `name-outside`, `bad-row`, ...).

    Raises:
        MissingFileError: There is no such list.
    """
    with open_file(listing) as stream:
        number = 0
        while line := stream.readline(_LINE_BYTES):
            number += 1
            where = f"{listing}, line {number}"
            if len(line) == _LINE_BYTES and not line.endswith(b"\n"):
                yield set_aside(where, "bad-row", f"{where}: longer than a path can be")
                while len(line) == _LINE_BYTES and not line.endswith(b"\n"):
                    line = stream.readline(_LINE_BYTES)
                continue
            name = line.removeprefix(_BOM if number == 1 else b"").strip(b"\r\n")
            if name.strip():
                text = name.decode("utf-8", "surrogateescape")
                yield _named(text, folder, namespace, where, None)


def coco_photos(listing: Path, folder: Path | str, namespace: str) -> Iterator[Found]:
    """Photos of the list `images` of a COCO file, with the sizes it tells.

    Args and yields as `lines_photos`.

    Raises:
        MissingFileError: There is no such file.
        AnnotationError: It is not JSON, or has no such list.
    """
    for number, entry in enumerate(elements_of(listing, "images", AnnotationError)):
        where = f"{listing}, images[{number}]"
        name = entry.get("file_name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name:
            yield set_aside(where, "bad-row", f"{where}: no file_name")
            continue
        height, width = entry.get("height"), entry.get("width")
        told = type(height) is int and type(width) is int and height > 0 and width > 0
        yield _named(name, folder, namespace, where, (height, width) if told else None)


def _named(
    name: str, folder: Path | str, namespace: str, where: str, size: tuple[int, int] | None
) -> Found:
    """The photo of a path, or why there is none."""
    root = str(folder).rstrip("/")
    below = name.removeprefix(f"{root}/") if name.startswith(f"{root}/") else name
    while below.startswith("./"):
        below = below[2:]
    stem = without_ending(below)
    if inside_problem(below):
        detail = f"{where}: {name[:200]!a} does not lie in {folder}; name the folder by path"
        return set_aside(stem, "name-outside", detail)
    if isinstance(folder, Path):
        place: Path | str = folder / below
        if not os.path.isfile(place):
            detail = f"{where}: {ascii(below)[1:-1]} is not in {folder}; copy it there"
            return set_aside(stem, "missing-file", detail)
    else:
        place = f"{root}/{below}"

    def source_of(image_id: str) -> ImageSource:
        return ImageSource(image_id=image_id, path=place, size=size)

    return under_name(namespace, stem, where, source_of)
