"""Tables in the layout of the Oscar family: `x.tsv` with the offsets of its rows in `x.lineidx`.

UTF-8, columns between tabs, a newline after each row; the first column is the image key. The index
is text: one decimal byte offset a row. Fields lose outer white space, as in the original reader.
Source: oscar/utils/tsv_file.py of microsoft/Oscar.
"""

import mmap
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self, overload

import numpy as np
from numpy.typing import NDArray

from storage.artifacts import atomic_path, atomic_write_text
from storage.errors import DamagedFileError, MissingFileError, RecordError
from storage.json_files import read_bytes

INDEX_SUFFIX = ".lineidx"
_LOOKED_AT = 1_000
"""Rows whose beginning is compared with the index at once; any other one when it is read."""
_KEY_BYTES = 256
_MOST_BYTES = 1 << 30
"""No row is longer; a hundred regions of 2054 numbers have 1.1 million bytes."""
_NEWLINE = ord("\n")


class TsvReader(Sequence[tuple[str, ...]]):
    """Rows of a table by number, memory-mapped.

    Without an index file the table is read through once, and nothing is written.
    """

    def __init__(self, path: Path) -> None:
        """Open a table and check its index.

        Raises:
            MissingFileError: There is no such table.
            DamagedFileError: The index does not fit the table.
        """
        self.path = path
        self._index = path.with_suffix(INDEX_SUFFIX)
        try:
            with open(path, "rb") as stream:
                self._size = stream.seek(0, 2)
                # an empty file cannot be mapped
                self._content: mmap.mmap | bytes = (
                    mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if self._size else b""
                )
        except FileNotFoundError:
            raise MissingFileError(f"{path}: no such file") from None
        except OSError as error:
            raise MissingFileError(f"{path}: {error.strerror}; check the path") from error
        self._starts = self._indexed() if self._index.exists() else self._found()

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, number: int) -> tuple[str, ...]: ...
    @overload
    def __getitem__(self, number: slice) -> list[tuple[str, ...]]: ...
    def __getitem__(self, number: int | slice) -> tuple[str, ...] | list[tuple[str, ...]]:
        """One row, its fields without outer white space.

        Raises:
            IndexError: There are fewer rows.
            DamagedFileError: It is not UTF-8, or does not lie where the index says.
        """
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        place = range(len(self))[number]
        try:
            line = self._line(place).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DamagedFileError(
                f"{self.path}: row {place}: byte {error.start} of it is not UTF-8"
            ) from error
        return tuple(field.strip() for field in line.split("\t"))

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        return (self[place] for place in range(len(self)))

    def key(self, number: int) -> str:
        """First column of a row, without decoding the others."""
        place = range(len(self))[number]
        start = int(self._starts[place])
        head = self._content[start : start + _KEY_BYTES]
        if b"\t" not in head:
            head = self._line(place)
        return head.partition(b"\t")[0].decode("utf-8", "replace").strip()

    def rows_by_key(self) -> dict[str, int]:
        """Key -> number of its row.

        Raises:
            DamagedFileError: A key occurs twice.
        """
        rows: dict[str, int] = {}
        for place in range(len(self)):
            key = self.key(place)
            if key in rows:
                raise DamagedFileError(f"{self.path}: rows {rows[key]} and {place} are of {key!r}")
            rows[key] = place
        return rows

    def _line(self, place: int) -> bytes:
        start = int(self._starts[place])
        is_last = place + 1 == len(self._starts)
        stop = self._size if is_last else int(self._starts[place + 1])
        if start and self._content[start - 1] != _NEWLINE:
            raise self._misplaced(place, start)
        if stop - start > _MOST_BYTES:
            raise DamagedFileError(f"{self.path}: row {place} has {stop - start} bytes; cut?")
        line = bytes(self._content[start:stop])
        whole = line.removesuffix(b"\n")
        if b"\n" in whole:
            raise DamagedFileError(f"{self._index}: row {place} is more than one; {self._mend}")
        if whole is line and not is_last:
            raise self._misplaced(place + 1, stop)
        return whole

    def _misplaced(self, row: int, start: int) -> DamagedFileError:
        return DamagedFileError(
            f"{self._index}: row {row} does not begin at byte {start}; {self._mend}"
        )

    @property
    def _mend(self) -> str:
        return f"delete {self._index.name} to have it made anew"

    def _found(self) -> NDArray[np.int64]:
        starts, start = array("q"), 0
        while start < self._size:
            starts.append(start)
            end = self._content.find(b"\n", start)
            start = self._size if end < 0 else end + 1
        return np.array(starts, dtype=np.int64)

    def _indexed(self) -> NDArray[np.int64]:
        starts = self._offsets()
        if bool(len(starts)) != bool(self._size) or (len(starts) and starts[0] != 0):
            raise DamagedFileError(
                f"{self._index}: does not begin with the table's first row; {self._mend}"
            )
        wrong = np.flatnonzero((np.diff(starts) <= 0) | (starts[1:] >= self._size))
        looked_at = range(1, len(starts), max(1, len(starts) // _LOOKED_AT))
        unlike = (row for row in looked_at if self._byte(int(starts[row]) - 1) != _NEWLINE)
        for row in (*(int(place) + 1 for place in wrong[:1]), *unlike):
            raise self._misplaced(row, int(starts[row]))
        if len(starts) and self._content.find(b"\n", int(starts[-1])) not in (-1, self._size - 1):
            raise DamagedFileError(
                f"{self._index}: the table has more rows than the index; {self._mend}"
            )
        return starts

    def _byte(self, place: int) -> int:
        return self._content[place] if 0 <= place < self._size else -1

    def _offsets(self) -> NDArray[np.int64]:
        """The numbers of the index file.

        Raises:
            DamagedFileError: It holds something else.
        """
        content = read_bytes(self._index)
        if content.translate(None, b"0123456789 \t\r\n"):
            raise DamagedFileError(f"{self._index}: not an index of offsets; {self._mend}")
        try:
            return np.array([int(each) for each in content.split()], dtype=np.int64)
        except (ValueError, OverflowError) as error:
            raise DamagedFileError(
                f"{self._index}: not an index ({error}); {self._mend}"
            ) from error


class TsvWriter:
    """Writes a table and its index; both appear when the block ends well."""

    def __init__(self, path: Path) -> None:
        """Name the table; nothing is written before the block is entered."""
        self._path = path
        self._starts = array("q")
        self._size = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._path.with_suffix(INDEX_SUFFIX).unlink(missing_ok=True)
        self._stream = self._stack.enter_context(
            open(self._stack.enter_context(atomic_path(self._path)), "wb")
        )
        return self

    def __exit__(self, *error: object) -> None:
        """Put the table in its place, then the index, unless the block failed."""
        self._stack.__exit__(*error)  # type: ignore[arg-type]  # three objects
        if error[0] is None:
            lines = "".join(f"{start}\n" for start in self._starts)
            atomic_write_text(self._path.with_suffix(INDEX_SUFFIX), lines)

    def add(self, fields: Sequence[str]) -> None:
        """Write a row.

        Raises:
            RecordError: A field has a tab or a line end, or there is no field.
            OSError: It cannot be written.
        """
        if not fields or any(sign in field for field in fields for sign in "\t\r\n"):
            raise RecordError(f"{self._path}: a row needs fields without tabs and line ends")
        row = ("\t".join(fields) + "\n").encode("utf-8")
        self._stream.write(row)
        self._starts.append(self._size)
        self._size += len(row)


def write_tsv(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Write a whole table with its index. Raises as `TsvWriter.add`."""
    with TsvWriter(path) as writer:
        for row in rows:
            writer.add(row)
