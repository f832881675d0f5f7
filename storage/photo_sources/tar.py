"""Photos in a tar file, WebDataset's included: each is a stretch of it, nothing is unpacked.

The headers are read here, not by `tarfile`, which keeps every member in memory, takes a damaged
header in the middle for the end, and reads extended headers of any size whole.
Source: POSIX.1-2017 `pax`, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from storage.errors import DamagedFileError
from storage.photo_files import open_file, size_of_file
from storage.photo_sources.found import (
    Found,
    claims_to_be_photo,
    inside_problem,
    set_aside,
    under_name,
    without_ending,
)
from storage.records import ImageSource, Quarantined, Stretch

BLOCK = 512
_MAX_EXTENDED = 1 << 20
"""Bytes of an extended header, which holds a name and some numbers."""
_MAX_REST = 1 << 20
"""Bytes behind the end mark that are looked at; programs fill up their last record with zeros."""
_FILE, _LINKS, _FOLDER = b"0\07", b"12", b"5"
_WITHOUT_BYTES = b"123456"
_LONG_NAME, _LONG_LINK, _EXTENDED, _GLOBAL, _SPARSE = b"L", b"K", b"x", b"g", b"S"
_MORE_SPARSE = {_SPARSE: 482, b"": 504}
"""Where a header, and where what goes on behind it, says that there is more."""


class _BrokenHeaderError(Exception):
    """These 512 bytes are no header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    """name of a member, its size [bytes], its kind."""

    name: str
    size: int
    kind: bytes


@dataclass(slots=True)
class _Told:
    """What extended headers say of the member that follows."""

    name: str = ""
    size: int | None = None
    is_sparse: bool = False


def tar_photos(place: Path | str, namespace: str) -> Iterator[Found]:
    """Photos of a tar file in its order.

    An image id is `namespace/name of the member without extension`.

    Args:
        place: the file.
        namespace: of the collection; "" for none.

    Yields:
        Photos, and what cannot be used (`name-outside`, `not-a-file`, `truncated`, ...); the
        last of these may be the rest of the file (`archive-cut`, `archive-damaged`).

    Raises:
        MissingFileError: There is no such file.
        DamagedFileError: It does not begin like a tar.
    """
    size = size_of_file(place)
    with open_file(place) as stream:
        yield from _Walk(stream, size, place, namespace).photos()


def is_tar(head: bytes) -> bool:
    """Whether the first block of a file is a tar's."""
    try:
        return _header(head[:BLOCK]) is not None
    except _BrokenHeaderError:
        return False


class _Walk:
    """From header to header."""

    def __init__(self, stream: IO[bytes], size: int, place: Path | str, namespace: str) -> None:
        self._stream = stream
        self._size = size
        self._place = place
        self._namespace = namespace
        self._at = 0

    def photos(self) -> Iterator[Found]:
        """Everything that claims to be a photo."""
        told = _Told()
        while True:
            start = self._at
            try:
                header = self._next()
            except _BrokenHeaderError as error:
                yield self._lost(start, error)
                return
            if header is None:
                yield from self._rest(start)
                return
            try:
                if self._extends(header, told):
                    continue
            except _BrokenHeaderError as error:
                yield self._lost(start, error)
                return
            name, size = told.name or header.name, header.size
            if told.size is not None:
                size = told.size
            found = self._found(header, name, size, told.is_sparse)
            told = _Told()
            if found is not None:
                yield found
            if header.kind not in _WITHOUT_BYTES:
                self._at += _in_blocks(size)

    def _next(self) -> _Header | None:
        """The header here; None at the end."""
        if self._at > self._size:
            raise _BrokenHeaderError("the file ends inside a member")
        self._stream.seek(self._at)
        block = self._stream.read(BLOCK)
        if len(block) < BLOCK:
            raise _BrokenHeaderError("the file ends without its end mark")
        header = _header(block)
        self._at += BLOCK
        if header is not None and header.kind == _SPARSE:
            self._pass_sparse(block)
        return header

    def _rest(self, start: int) -> Iterator[Quarantined]:
        """Tell where more than zeros follow the end mark: a hole, or a second tar behind it."""
        self._stream.seek(self._at)
        if any(self._stream.read(_MAX_REST)):
            yield self._lost(start, _BrokenHeaderError("more behind its end mark"))

    def _pass_sparse(self, block: bytes) -> None:
        """Go behind the blocks that tell where a sparse file has its bytes."""
        at = _MORE_SPARSE[_SPARSE]
        while block[at]:
            block = self._stream.read(BLOCK)
            if len(block) < BLOCK:
                raise _BrokenHeaderError("the file ends inside a header")
            self._at += BLOCK
            at = _MORE_SPARSE[b""]

    def _extends(self, header: _Header, told: _Told) -> bool:
        """Whether a header only says more of the one that follows; it is taken in then."""
        if header.kind not in (_LONG_NAME, _LONG_LINK, _EXTENDED, _GLOBAL):
            return False
        if header.size > _MAX_EXTENDED:
            raise _BrokenHeaderError(f"an extended header of {header.size} bytes")
        content = self._stream.read(header.size)
        if len(content) < header.size:
            raise _BrokenHeaderError("the file ends inside a header")
        self._at += _in_blocks(header.size)
        if header.kind == _LONG_NAME:
            told.name = _text(content)
        elif header.kind == _EXTENDED:
            records = _records(content)
            told.name = records.get("path", told.name)
            told.size = _whole(records["size"]) if "size" in records else told.size
            told.is_sparse = any(key.startswith("GNU.sparse.") for key in records)
        return True

    def _found(self, header: _Header, name: str, size: int, is_sparse: bool) -> Found | None:
        """What a member is; None where it does not claim to be a photo."""
        start = self._at
        while name.startswith("./"):
            name = name[2:]
        if header.kind == _FOLDER or not claims_to_be_photo(name):
            return None
        stem = without_ending(name)
        place = f"{self._place}, member {ascii(name)[1:-1]}"
        if inside_problem(name):
            return set_aside(stem, "name-outside", f"{place}: its name points elsewhere")
        if header.kind not in _FILE or is_sparse:
            return set_aside(stem, "not-a-file", f"{place}: a link, a sparse or a special file")
        if start + size > self._size:
            return set_aside(stem, "truncated", f"{place}: the file ends inside it; copy it again")
        part = Stretch(start=start, num_bytes=size)
        return under_name(
            self._namespace,
            stem,
            str(self._place),
            lambda image_id: ImageSource(image_id=image_id, path=self._place, part=part),
        )

    def _lost(self, start: int, error: _BrokenHeaderError) -> Quarantined:
        """What follows cannot be found.

        Raises:
            DamagedFileError: Nothing came before.
        """
        if start == 0:
            raise DamagedFileError(f"{self._place}: no tar file ({error}); copy it again")
        is_cut = "ends" in str(error)
        return set_aside(
            str(self._place),
            "archive-cut" if is_cut else "archive-damaged",
            f"{self._place}: {error} at byte {start}; members behind it are lost, copy it again",
        )


def _header(block: bytes) -> _Header | None:
    """What 512 bytes say; None for the end mark.

    Raises:
        _BrokenHeaderError: They are no header.
    """
    if len(block) < BLOCK:
        raise _BrokenHeaderError("shorter than a header")
    if not any(block):
        return None
    unsigned = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if _number(block[148:156]) not in (unsigned, unsigned - 256 * _num_high(block)):
        raise _BrokenHeaderError("no header, or a damaged one")
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and block[345]:
        name = f"{_text(block[345:500])}/{name}"
    return _Header(name=name, size=_number(block[124:136]), kind=block[156:157])


def _num_high(block: bytes) -> int:
    """How many bytes old programs took for negative when they summed up."""
    return sum(each > 127 for each in block[:148] + block[156:])


def _number(digits: bytes) -> int:
    """An octal number, or a binary one where the first bit says so."""
    if digits[0] == 0x80:
        return int.from_bytes(digits[1:])
    octal = digits.replace(b"\0", b" ").strip() or b"0"
    if not octal.isdigit() or b"8" in octal or b"9" in octal:  # no sign: nothing goes backwards
        raise _BrokenHeaderError("no header, or a damaged one")
    return int(octal, 8)


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise _BrokenHeaderError("an extended header with a size that is no number")
    return int(text)


def _records(content: bytes) -> dict[str, str]:
    """`length key=value` lines; the length counts the whole line."""
    records: dict[str, str] = {}
    at = 0
    while at < len(content) and content[at : at + 1] != b"\0":
        digits, space, _ = content[at : at + 24].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        line = content[at : at + length]
        key, sign, value = line[len(digits) + 1 : -1].partition(b"=")
        if not sign or not line.endswith(b"\n"):
            raise _BrokenHeaderError("an extended header that is damaged")
        records[_text(key)] = value.decode("utf-8", "surrogateescape")
        at += length
    return records


def _text(field_: bytes) -> str:
    return field_.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _in_blocks(num_bytes: int) -> int:
    return -(-num_bytes // BLOCK) * BLOCK
