"""Photos in the image table of the original: a TSV whose rows end with a photo in base64.

x.tsv            key TAB ... TAB base64
x.lineidx        where each row begins; it is compared where it is there, and not needed
x.hw.tsv         key TAB [{"height": 480, "width": 640}], or a dictionary, or "480 640"; same rows
x.linelist.tsv   numbers of the rows that count, from 0, one a line

Source: maskrcnn_benchmark/data/datasets/tsv_dataset.py of microsoft/scene_graph_benchmark.
"""

import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from storage.errors import DamagedFileError, MissingFileError
from storage.photo_files import open_file
from storage.photo_sources.found import Found, set_aside, under_name
from storage.records import ImageSource, Stretch

INDEX_SUFFIX = ".lineidx"
_CHUNK_BYTES = 1 << 20
_KEY_BYTES = 1024
_SIZE_BYTES = 4096
_INDEX_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A row; head: its first bytes; size: height and width, where they are told."""

    start: int
    num_bytes: int
    head: bytes
    size: tuple[int, int] | None = None

    @property
    def key(self) -> str:
        """The first column."""
        return self.head.partition(b"\t")[0].strip().decode("utf-8", "surrogateescape")


def table_photos(
    place: Path | str, namespace: str, sizes: Path | None = None, lines: Path | None = None
) -> Iterator[Found]:
    """Photos of an image table, row by row.

    An image id is `namespace/key of the row`.

    Args:
        place: the table.
        namespace: of the collection; "" for none.
        sizes: table of heights and widths; a photo of another size is set aside when it is read.
        lines: which rows count, and in which order; None for all.

    Yields:
        Photos, and rows that are none (`bad-row`, `no-such-row`, `name-unprintable`, ...).

    Raises:
        MissingFileError: A file is not there.
        DamagedFileError: The index or the table of sizes is that of another table.
    """
    if lines is not None:
        yield from _listed_photos(place, namespace, sizes, lines)
        return
    for number, row in enumerate(_sized_rows(place, sizes)):
        yield _photo(place, namespace, number, row)


def _listed_photos(
    place: Path | str, namespace: str, sizes: Path | None, lines: Path
) -> Iterator[Found]:
    """The rows that a list names; 24 bytes stand for each row of the table."""
    places, told = array("Q"), array("I")
    for row in _sized_rows(place, sizes):
        places.extend((row.start, row.num_bytes))
        told.extend(row.size or ())
    num_rows = len(places) // 2
    with open_file(place) as table:
        for at, number in enumerate(_row_numbers(lines), start=1):
            where = f"{lines}, line {at}"
            if number is None or number >= num_rows:
                said = "no number of a row" if number is None else f"{place} has no row {number}"
                yield set_aside(where, "no-such-row", f"{where}: {said}")
                continue
            start, num_bytes = places[2 * number : 2 * number + 2]
            size = (told[2 * number], told[2 * number + 1]) if told else None
            table.seek(start)
            head = table.read(min(_KEY_BYTES, num_bytes))
            row = _Row(start=start, num_bytes=num_bytes, head=head, size=size)
            yield _photo(place, namespace, number, row)


def _photo(place: Path | str, namespace: str, number: int, row: _Row) -> Found:
    where = f"{place}, row {number}"
    if b"\t" not in row.head:
        return set_aside(where, "bad-row", f"{where}: no key and tab at its beginning")
    part = Stretch(start=row.start, num_bytes=row.num_bytes, is_row=True)

    def source_of(image_id: str) -> ImageSource:
        return ImageSource(image_id=image_id, path=place, part=part, size=row.size)

    return under_name(namespace, row.key, where, source_of)


def _sized_rows(place: Path | str, sizes: Path | None) -> Iterator[_Row]:
    """The rows, compared with the index beside the table and with its sizes, where there are."""
    told = _sizes(sizes) if sizes is not None else None
    begins = _index(place)
    number = -1
    for number, row in enumerate(_rows(place)):
        if begins is not None and next(begins, None) != row.start:
            raise _other_index(place, number, row.start)
        if told is None:
            yield row
        else:
            size = _size_of(next(told, ("", None)), row.key, sizes, number)
            yield replace(row, size=size)
    if begins is not None and next(begins, None) is not None:
        raise _other_index(place, number + 1, None)
    if told is not None and next(told, None) is not None:
        raise DamagedFileError(f"{sizes}: more rows than {place}; it is of another table")


def _row_numbers(lines: Path) -> Iterator[int | None]:
    """Numbers of a list of rows, None for a line that is none; empty lines are left out."""
    with open_file(lines) as stream:
        while line := stream.readline(_INDEX_BYTES):
            if word := line.strip():
                yield int(word) if word.isdigit() else None


def _rows(place: Path | str) -> Iterator[_Row]:
    """Where the rows of a table are, in one pass, whatever their lengths."""
    with open_file(place) as stream:
        start = at = 0
        head = bytearray()
        while chunk := stream.read(_CHUNK_BYTES):
            begin = 0
            while (end := chunk.find(b"\n", begin)) >= 0:
                head += chunk[begin : min(end, begin + _KEY_BYTES - len(head))]
                if at + end > start:  # an empty line is no row
                    yield _Row(
                        start=start, num_bytes=at + end + 1 - start, head=bytes(head[:_KEY_BYTES])
                    )
                head.clear()
                begin = end + 1
                start = at + begin
            head += chunk[begin : begin + max(0, _KEY_BYTES - len(head))]
            at += len(chunk)
        if at > start:
            yield _Row(start=start, num_bytes=at - start, head=bytes(head[:_KEY_BYTES]))


def _index(place: Path | str) -> Iterator[int] | None:
    """Offsets of an index that lies beside a local table; None without one."""
    if isinstance(place, str):
        return None
    path = place.with_suffix(INDEX_SUFFIX)
    return _offsets(path) if path.is_file() else None


def _offsets(path: Path) -> Iterator[int]:
    with open_file(path) as stream:
        while line := stream.readline(_INDEX_BYTES):
            if not line.strip().isdigit():
                raise DamagedFileError(
                    f"{path}: not an index of offsets; delete it, it is not needed"
                )
            yield int(line)


def _other_index(place: Path | str, number: int, start: int | None) -> DamagedFileError:
    index = Path(place).with_suffix(INDEX_SUFFIX)
    where = f"begins at byte {start}" if start is not None else "is not there"
    return DamagedFileError(
        f"{index}: row {number} of the table {where}, the index says otherwise; delete it, it is "
        "not needed"
    )


def _sizes(path: Path) -> Iterator[tuple[str, tuple[int, int] | None]]:
    """Keys and sizes of a table of sizes; None for one that cannot be understood."""
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    with open_file(path) as stream:
        while line := stream.readline(_SIZE_BYTES):
            key, _, value = line.rstrip(b"\r\n").partition(b"\t")
            yield key.strip().decode("utf-8", "surrogateescape"), _size(value)


def _size(value: bytes) -> tuple[int, int] | None:
    """Height and width in any of the three forms."""
    try:
        first, _, second = value.partition(b" ")
        if first.isdigit() and second.isdigit():
            return int(first), int(second)
        told = json.loads(value)
        told = told[0] if isinstance(told, list) else told
        return int(told["height"]), int(told["width"])
    except (ArithmeticError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _size_of(
    told: tuple[str, tuple[int, int] | None], name: str, path: Path | None, number: int
) -> tuple[int, int]:
    key, size = told
    if key != name or size is None:
        what = f"is of {key[:80]!a}, not of {name[:80]!a}" if key != name else "no size"
        raise DamagedFileError(f"{path}: row {number} {what}; it is of another table, or damaged")
    return size
