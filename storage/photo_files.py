"""The bytes of photos, wherever they lie: files, parts of files, tables, local or behind a URL.

What is wrong with one photo is told of that photo; a store that does not answer is nobody's fault
and ends the work, which goes on from its last whole shard.
"""

import binascii
import errno
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from storage.errors import (
    DamagedFileError,
    MissingFileError,
    SourceError,
    StorageError,
    UnreadableImageError,
)
from storage.records import Cell, ImageSource, Stretch
from storage.urls import WITHOUT_SECRET, carries_secret, masked

T = TypeVar("T")

TRIES = 3
"""At a store that does not answer."""
_WAIT_SECONDS = 0.5
_REFUSED = (401, 403, 410, 451)
"""What HTTP answers where asking again does not help; 404 is told as a missing file."""
_BLOCK_BYTES = 1 << 20
_ROWS_AT_ONCE = 8
_BATCHES_KEPT = 4
"""Threads that read ahead ask for rows a little out of order."""
_CURSORS_KEPT = 2
_BASE64_GROWTH = 4 / 3
_KEY_BYTES = 4096


def is_url(place: Path | str) -> bool:
    """Whether a place lies behind a URL of fsspec."""
    return isinstance(place, str)


def read_source(source: ImageSource, max_bytes: int) -> bytes:
    """The bytes of one photo.

    Args:
        source: which.
        max_bytes: more is refused, before it is read.

    Raises:
        UnreadableImageError: With one of the reasons `unreadable`, `empty-file`, `too-many-bytes`,
            `not-base64`.
        SourceError: The store does not answer.
    """
    part = source.part
    if isinstance(part, Cell):
        content = _CELLS.read(source, part, max_bytes)
    elif isinstance(part, Stretch):
        content = _read_stretch(source, part, max_bytes)
    elif isinstance(source.path, Path):
        content = _read_file(source.path, max_bytes)
    else:
        content = _read_url(source, max_bytes)
    if not content:
        raise UnreadableImageError("empty-file", f"{source.place}: the file has no bytes")
    if len(content) > max_bytes:
        raise _too_many(source, max_bytes)
    return content


def open_file(place: Path | str) -> IO[bytes]:
    """A file for reading at random.

    Raises:
        MissingFileError: There is none.
        SourceError: The store does not answer.
    """
    try:
        if isinstance(place, Path):
            return open(place, "rb")
        store, path = store_of(place)
        opened = answered(place, lambda: store.open(path, "rb", block_size=_BLOCK_BYTES))
        return cast("IO[bytes]", _Remote(opened, place))
    except FileNotFoundError:
        raise MissingFileError(f"{place}: no such file") from None
    except OSError as error:
        raise MissingFileError(f"{place}: {error.strerror or error}; check the path") from error


def size_of_file(place: Path | str) -> int:
    """Size [bytes]. Raises as `open_file`."""
    if isinstance(place, Path):
        with open_file(place) as stream:
            return os.fstat(stream.fileno()).st_size
    store, path = store_of(place)
    try:
        return int(answered(place, lambda: store.info(path))["size"])
    except (FileNotFoundError, TypeError):
        raise MissingFileError(f"{place}: no such file, or one of unknown size") from None


def store_of(url: str) -> tuple[Any, str]:
    """The store of a URL, and the path inside it.

    Raises:
        SourceError: The protocol is unknown, its package is not installed, or the URL carries a
            password.
    """
    if carries_secret(url):
        raise SourceError(f"{masked(url)}: {WITHOUT_SECRET}")
    try:
        store, path = url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise SourceError(f"{url}: {error}") from error
    return store, str(path)


def answered(url: str, ask: Callable[[], T]) -> T:
    """What a store answers; it is asked again after a while when it does not.

    Raises:
        FileNotFoundError, PermissionError: It answers so.
        StorageError: `ask` found something wrong with the answer.
        SourceError: It does not answer.
    """
    for attempt in range(TRIES):
        try:
            return ask()
        except (FileNotFoundError, PermissionError, IsADirectoryError, MemoryError, StorageError):
            raise
        except Exception as error:  # every store has errors of its own
            if getattr(error, "status", None) in _REFUSED:
                raise PermissionError(errno.EACCES, f"refused: {_one_line(error)}", url) from error
            if attempt + 1 == TRIES:
                raise SourceError(
                    f"{url}: cannot be read: {_one_line(error)}; run the same command again to "
                    "go on"
                ) from error
            time.sleep(_WAIT_SECONDS * 2**attempt)
    raise AssertionError("a try returns or raises")


class _Remote:
    """A file of a store, asked again when the store does not answer in the middle of it."""

    def __init__(self, opened: Any, url: str) -> None:
        self._opened = opened
        self._url = url

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opened, name)

    def __enter__(self) -> "_Remote":
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    def read(self, size: int = -1) -> bytes:
        start = self._opened.tell()

        def ask() -> bytes:
            self._opened.seek(start)
            return bytes(self._opened.read(size))

        return answered(self._url, ask)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _too_many(source: ImageSource, max_bytes: int) -> UnreadableImageError:
    return UnreadableImageError(
        "too-many-bytes",
        f"{source.place}: more than {max_bytes} bytes; raise the limit or shrink it",
    )


def _read_file(path: Path, max_bytes: int) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise UnreadableImageError("unreadable", f"{path}: not a regular file")
        with open(path, "rb") as stream:
            # Python sets aside as many bytes as are asked for
            size = os.fstat(stream.fileno()).st_size
            return stream.read(min(size, max_bytes) + 1)
    except OSError as error:
        raise UnreadableImageError("unreadable", f"{path}: {error.strerror}") from error


def _read_url(source: ImageSource, max_bytes: int) -> bytes:
    store, path = store_of(url := str(source.path))

    def ask() -> bytes:
        size = store.info(path)["size"]
        if size is not None and size > max_bytes:
            raise _too_many(source, max_bytes)
        if size is None:
            with store.open(path, "rb") as stream:
                return bytes(stream.read(max_bytes + 1))
        return bytes(store.cat_file(path))

    try:
        return answered(url, ask)
    except OSError as error:
        raise UnreadableImageError("unreadable", f"{url}: {error.strerror or error}") from error


def _read_stretch(source: ImageSource, part: Stretch, max_bytes: int) -> bytes:
    grown = int(max_bytes * _BASE64_GROWTH) + _KEY_BYTES if part.is_row else max_bytes
    if part.num_bytes > grown:
        raise _too_many(source, max_bytes)
    try:
        if isinstance(source.path, Path):
            with open(source.path, "rb") as stream:
                stream.seek(part.start)
                # so many are set aside; a file may have become shorter
                left = max(0, os.fstat(stream.fileno()).st_size - part.start)
                content = stream.read(min(part.num_bytes, left))
        else:
            store, path = store_of(source.path)
            end = part.start + part.num_bytes
            content = bytes(
                answered(source.path, lambda: store.cat_file(path, start=part.start, end=end))
            )
    except OSError as error:
        said = error.strerror or str(error)
        raise UnreadableImageError("unreadable", f"{source.place}: {said}") from error
    if len(content) < part.num_bytes:
        raise UnreadableImageError(
            "truncated", f"{source.place}: the file ends before it; was it cut since it was listed?"
        )
    return _last_field(source, content) if part.is_row else content


def _last_field(source: ImageSource, row: bytes) -> bytes:
    try:
        return binascii.a2b_base64(
            row.rstrip(b"\r\n").rpartition(b"\t")[2].strip(), strict_mode=True
        )
    except binascii.Error as error:
        raise UnreadableImageError(
            "not-base64", f"{source.place}: its last column is no base64: {error}"
        ) from error


_Key = tuple[Path | str, int, str]
"""File, row group, column."""


class _Cursor:
    """Reads one column of one row group in order, a few rows at a time.

    A row group may hold gigabytes of photos; never more than some rows of it are in memory.
    """

    def __init__(self, place: Path | str, group: int, column: str) -> None:
        self.key = (place, group, column)
        self._rows: Iterator[pa.RecordBatch] = iter(())
        self._kept: deque[tuple[int, pa.Array]] = deque(maxlen=_BATCHES_KEPT)
        self._next = 0
        self._stream: IO[bytes] | None = None

    def row(self, row: int) -> bytes | None:
        """The bytes of a row; None for a missing value."""
        if self._stream is None or (self._kept and row < self._kept[0][0]):
            self._begin()
        while row >= self._next:
            batch = next(self._rows, None)
            if batch is None:
                raise DamagedFileError(f"{self.key[0]}: row group {self.key[1]} has no row {row}")
            self._kept.append((self._next, _leaf(batch, self.key[2])))
            self._next += batch.num_rows
        first, values = next(pair for pair in reversed(self._kept) if pair[0] <= row)
        found: bytes | None = values[row - first].as_py()
        return found

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def _begin(self) -> None:
        self.close()
        place, group, column = self.key
        self._stream = open_file(place)
        file = pq.ParquetFile(self._stream, buffer_size=_BLOCK_BYTES, pre_buffer=False)
        self._rows = file.iter_batches(
            _ROWS_AT_ONCE, row_groups=[group], columns=[column], use_threads=False
        )
        self._kept.clear()
        self._next = 0


class _Cells:
    """Photos out of Parquet files, by cursors that threads share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cursors: OrderedDict[_Key, _Cursor] = OrderedDict()
        self._broken: dict[_Key, tuple[int, str]] = {}

    def read(self, source: ImageSource, cell: Cell, max_bytes: int) -> bytes:
        """The bytes of a cell. Raises as `read_source`."""
        key = (source.path, cell.group, cell.column)
        with self._lock:
            row, said = self._broken.get(key, (cell.row + 1, ""))
            try:
                if row <= cell.row:
                    raise DamagedFileError(said)
                content = self._cursor(key).row(cell.row)
            except SourceError:
                self._cursors.pop(key).close()  # it stands nowhere
                raise
            except (pa.ArrowException, OSError, DamagedFileError, MissingFileError) as error:
                # what follows cannot be read either, and need not be tried from the start
                said = _one_line(error)[:200]
                self._broken[key] = (min(row, cell.row), said)
                raise UnreadableImageError("unreadable", f"{source.place}: {said}") from error
        if content is not None and len(content) > max_bytes:
            raise _too_many(source, max_bytes)
        return content or b""

    def _cursor(self, key: _Key) -> _Cursor:
        if key not in self._cursors:
            self._cursors[key] = _Cursor(*key)
            while len(self._cursors) > _CURSORS_KEPT:
                self._cursors.popitem(last=False)[1].close()
        self._cursors.move_to_end(key)
        return self._cursors[key]


def _leaf(batch: pa.RecordBatch, column: str) -> pa.Array:
    """A column, or a field inside a column of records."""
    first, *inside = column.split(".")
    values = batch.column(batch.schema.names.index(first))
    return pc.struct_field(values, inside) if inside else values


_CELLS = _Cells()
