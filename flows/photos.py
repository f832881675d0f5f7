"""The list of a run's photos: which there are, and where each lies.

images.jsonl    one photo a line: its id, number of its collection, path in it, part of that file

Paths are kept relative to numbered places, so that a moved collection is the same collection;
where these are now is told to each stage that opens photos. What lies behind a URL keeps it.
"""

import json
import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from storage.artifacts import atomic_path
from storage.errors import DamagedFileError
from storage.records import Cell, ImageSource, Stretch

LIST_NAME = "images.jsonl"
_CHUNK_BYTES = 1 << 18


def write_photos(
    folder: Path, photos: Mapping[str, Iterable[ImageSource]], roots: Mapping[str, Path]
) -> int:
    """Write the list, one photo a line.

    Args:
        folder: where the list goes.
        photos: number of a collection -> its photos.
        roots: number of a collection -> its folder, or the file that holds its photos.

    Returns:
        Number of photos.
    """
    num = 0
    with atomic_path(folder / LIST_NAME) as path, open(path, "w", encoding="utf-8") as stream:
        for number, sources in photos.items():
            for source in sources:
                row = _as_row(source, number, roots.get(number))
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
                num += 1
    return num


class PhotoList(Sequence[ImageSource]):
    """The photos of a run, with paths as their collections lie now.

    A photo costs the memory of one number; the list stays on the disk.
    """

    def __init__(self, path: Path, roots: Mapping[str, Path]) -> None:
        self.path = path
        self._roots = roots
        with open(path, "rb") as stream:
            size = stream.seek(0, 2)
            # an empty file cannot be mapped
            self._content: mmap.mmap | bytes = (
                mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
            )
        self._ends = _line_ends(self._content)
        if size and (not len(self._ends) or int(self._ends[-1]) != size - 1):
            raise self._damaged("its last line is cut")

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, number: int) -> ImageSource: ...
    @overload
    def __getitem__(self, number: slice) -> list[ImageSource]: ...
    def __getitem__(self, number: int | slice) -> ImageSource | list[ImageSource]:
        """One photo, or some.

        Raises:
            DamagedFileError: The line is not what `write_photos` wrote.
        """
        if isinstance(number, slice):
            return [self._source(each) for each in range(*number.indices(len(self)))]
        return self._source(range(len(self))[number])

    def __iter__(self) -> Iterator[ImageSource]:
        return map(self._source, range(len(self)))

    def ids(self) -> Iterator[str]:
        """Ids of all photos, wherever these lie."""
        for number in range(len(self)):
            try:
                yield str(self._row(number)["image_id"])
            except KeyError as error:
                raise self._damaged(f"line {number + 1} has no {error}") from error

    def _source(self, number: int) -> ImageSource:
        row = self._row(number)
        try:
            place: Path | str = str(row["url"]) if "url" in row else self._roots[row["folder"]]
            if row.get("path"):
                place = f"{place}/{row['path']}" if isinstance(place, str) else place / row["path"]
            size = (int(row["height"]), int(row["width"])) if "height" in row else None
            return ImageSource(
                image_id=str(row["image_id"]), path=place, part=_part_of(row), size=size
            )
        except (KeyError, TypeError, ValueError) as error:
            raise self._damaged(f"line {number + 1}: {error}") from error

    def _row(self, number: int) -> dict[str, Any]:
        start = int(self._ends[number - 1]) + 1 if number else 0
        try:
            row = json.loads(self._content[start : int(self._ends[number])])
        except ValueError as error:
            raise self._damaged(f"line {number + 1}: {error}") from error
        if not isinstance(row, dict):
            raise self._damaged(f"line {number + 1} is no photo")
        return row

    def _damaged(self, said: str) -> DamagedFileError:
        return DamagedFileError(f"{self.path}: {said}; delete its folder and run again")


def read_photos(folder: Path, roots: Mapping[str, Path]) -> PhotoList:
    """The photos of a run, read as they are asked for.

    Args:
        folder: where the list lies.
        roots: number of a collection -> where it is now.

    Raises:
        DamagedFileError: The list is not there, or cut.
    """
    path = folder / LIST_NAME
    try:
        return PhotoList(path, roots)
    except OSError as error:
        raise DamagedFileError(f"{path}: {error}; delete its folder and run again") from error


def read_photo_ids(folder: Path) -> frozenset[str]:
    """Ids of the photos of a run, wherever the photos lie.

    Raises:
        DamagedFileError: The list is not what `write_photos` wrote.
    """
    return frozenset(read_photos(folder, {}).ids())


def _as_row(source: ImageSource, number: str, root: Path | None) -> dict[str, object]:
    row: dict[str, object] = {"image_id": source.image_id, "folder": number}
    if isinstance(source.path, str):
        row["url"] = source.path
    elif root is not None and source.path != root:
        row["path"] = source.path.relative_to(root).as_posix()
    match source.part:
        case Stretch(start=start, num_bytes=num_bytes, is_row=is_row):
            row |= {"start": start, "num_bytes": num_bytes} | ({"is_row": True} if is_row else {})
        case Cell(group=group, row=at, column=column):
            row |= {"group": group, "row": at, "column": column}
    if source.size is not None:
        row["height"], row["width"] = source.size
    return row


def _part_of(row: Mapping[str, Any]) -> Stretch | Cell | None:
    if "start" in row:
        return Stretch(
            start=int(row["start"]),
            num_bytes=int(row["num_bytes"]),
            is_row=bool(row.get("is_row", False)),
        )
    if "group" in row:
        return Cell(group=int(row["group"]), row=int(row["row"]), column=str(row["column"]))
    return None


def _line_ends(content: "mmap.mmap | bytes") -> NDArray[np.int64]:
    """Where the line ends stand."""
    found = [np.empty(0, np.int64)]
    for start in range(0, len(content), _CHUNK_BYTES):
        chunk = np.frombuffer(content[start : start + _CHUNK_BYTES], np.uint8)
        found.append(np.flatnonzero(chunk == ord("\n")) + start)
    return np.concatenate(found)
