"""Content digests of files and folders from outside a run; what is known is not read again.

Whether to read is decided by size, times and inode of a file; they are no part of any digest. A
folder whose files all look as they did is known as a whole, so that a start costs one look at
each file, not one read.

<run>/state/
outside.json              path -> how it looked, what its content digest was
outside/<digest>.names    what a folder of that digest held: name, digest of each file
outside/<place>.looks     how each of these files looked at that place
"""

import json
import os
import time
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from stat import S_ISREG

from flows.errors import ConfigError
from storage.artifacts import atomic_write_bytes, atomic_write_json, sha256_of
from storage.errors import MissingFileError

UNREADABLE = "unreadable"
"""Stands for the digest of what is no file or cannot be read; the stage quarantines it."""
SETTLED_NANOSECONDS = 2_000_000_000
"""A file changed later than this before it was read may change again with the same times."""
_FORMAT = 2
_NUM_MARKS = 4
_LARGEST = 2**63 - 1
_UNSEEN = (0,) * _NUM_MARKS

Marks = Sequence[int]
"""Size, modification time, change time [nanoseconds] and inode of a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a folder held.

    digests: name with "/" -> content digest, in the order in which they are hashed
    """

    digests: Mapping[str, str]

    @property
    def text(self) -> bytes:
        """What the digest of the folder is made of."""
        lines = (f"{name}\0{digest}\n" for name, digest in self.digests.items())
        return os.fsencode("".join(lines))

    @property
    def digest(self) -> str:
        """Who the folder is: SHA-256 of names and contents."""
        return sha256(self.text).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A folder as it is now: name -> marks; None for what is no file or cannot be looked at."""

    marks: Mapping[str, Marks | None]
    signature: str


@dataclass(slots=True)
class _Pages:
    """What the book knows: of files path -> marks and digest, of folders signature and digest."""

    files: dict[str, list[int | str]] = field(default_factory=dict)
    folders: dict[str, list[str]] = field(default_factory=dict)


class DigestBook:
    """Content hashes of outside files, kept from start to start in a run's folder.

    A book looks at a place once in its life: use a new one for a new look.

    Args:
        path: where it is kept; what it holds of folders goes to the folder of the same name.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._shelf = listings_of(path)
        self._pages = _read_pages(path)
        self._looked: dict[str, str] = {}
        self._listings: dict[str, Listing] = {}
        self._unsaved: dict[str, tuple[Listing, Mapping[str, Marks]]] = {}
        self._changed = False

    def digest(self, path: Path, key: str) -> str:
        """SHA-256 of a file, or of a folder's names and files below it.

        Args:
            path: file or folder.
            key: configuration key that names it, for the error.

        Raises:
            MissingFileError: Nothing is there.
            ConfigError: It is there and cannot be read.
        """
        try:
            if not path.exists():
                raise MissingFileError(f"{path}: no such file or folder ({key})")
            place = _as_text(os.path.realpath(path))
            if place not in self._looked:
                self._looked[place] = (
                    self._folder(path, place) if path.is_dir() else self._file(path, place)
                )
            return self._looked[place]
        except PermissionError as error:
            raise ConfigError(f"{error.filename}: permission denied ({key})") from error

    def save(self) -> None:
        """Keep what was learned for the next start, where there is a run folder to keep it in.

        A book that cannot be kept costs time at the next start, no more.
        """
        if not self._changed or not self._path.parent.is_dir():
            return
        with suppress(OSError):
            for place, (listing, marks) in self._unsaved.items():
                _write_listing(self._shelf, listing)
                _write_looks(self._shelf, place, listing, marks)
            content = {
                "format": _FORMAT,
                "files": self._pages.files,
                "folders": self._pages.folders,
            }
            atomic_write_json(self._path, content)
            self._unsaved.clear()
            self._changed = False

    def listing(self, digest: str) -> Listing | None:
        """What a folder of that digest held, now or at an earlier start; None where unknown."""
        if digest not in self._listings:
            found = read_listing(self._shelf, digest)
            if found is None:
                return None
            self._listings[digest] = found
        return self._listings[digest]

    def _folder(self, folder: Path, place: str) -> str:
        settled = _settled_before()
        seen = _look(folder)
        known = self._pages.folders.get(place)
        if known is not None and known[0] == seen.signature:
            return known[1]
        earlier = _read_looks(self._shelf, place, known[1]) if known is not None else {}
        digests: dict[str, str] = {}
        marks: dict[str, Marks] = {}
        for name, now in seen.marks.items():
            before = earlier.get(name)
            if before is not None and now is not None and before[0] == tuple(now):
                digests[name], marks[name] = before[1], now
                continue
            digests[name] = UNREADABLE if now is None else _digest_or_unreadable(folder / name)
            is_kept = now is not None and digests[name] != UNREADABLE and max(now[1:3]) < settled
            marks[name] = now if now is not None and is_kept else _UNSEEN
        listing = Listing(digests=digests)
        is_known = _UNSEEN not in marks.values()
        self._pages.folders[place] = [seen.signature if is_known else "", listing.digest]
        self._unsaved[place] = (listing, marks)
        self._listings[listing.digest] = listing
        self._changed = True
        return listing.digest

    def _file(self, path: Path, place: str) -> str:
        settled = _settled_before()
        try:
            marks = _marks(path.stat())
        except OSError:
            return UNREADABLE
        if marks is None:
            return UNREADABLE  # a pipe would be waited on for ever
        entry = self._pages.files.get(place)
        if entry is not None and entry[:_NUM_MARKS] == list(marks):
            return str(entry[_NUM_MARKS])
        digest = _digest_or_unreadable(path)
        if digest != UNREADABLE and max(marks[1:3]) < settled:
            self._pages.files[place] = [*marks, digest]
            self._changed = True
        return digest


def listings_of(book: Path) -> Path:
    """The folder beside a digest book where it keeps what folders held."""
    return book.with_suffix("")


def read_listing(shelf: Path, digest: str) -> Listing | None:
    """What a folder of that digest held; None where nobody wrote it down.

    Args:
        shelf: `listings_of` a book.
        digest: of the folder.
    """
    with suppress(OSError, ValueError, zlib.error):
        text = zlib.decompress((shelf / f"{digest}.names").read_bytes())
        if sha256(text).hexdigest() == digest:
            return Listing(digests=_parsed(text))
    return None


def changed_files(
    old: Mapping[str, str] | None, new: Mapping[str, str] | None
) -> dict[str, list[str]] | None:
    """Names of files that came, went or changed, in order; None where one side is not known."""
    if old is None or new is None:
        return None
    return {
        "added": sorted(new.keys() - old.keys()),
        "removed": sorted(old.keys() - new.keys()),
        "changed": sorted(name for name in old.keys() & new.keys() if old[name] != new[name]),
    }


def counted(number: int, what: str) -> str:
    """A number with its noun, in the singular for one."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _parsed(text: bytes) -> dict[str, str]:
    """Names may hold line ends, digests cannot; so a digest ends at its first one."""
    first, *rest = os.fsdecode(text).split("\0")
    name, digests = first, {}
    for part in rest:
        digests[name], _, name = part.partition("\n")
    return digests


def _write_listing(shelf: Path, listing: Listing) -> None:
    text = listing.text
    path = shelf / f"{sha256(text).hexdigest()}.names"
    if not path.exists():
        atomic_write_bytes(path, zlib.compress(text, level=1))


def looks_name(place: str) -> str:
    """Name of the file on the shelf that says how the files of a folder looked."""
    return f"{sha256(place.encode()).hexdigest()[:16]}.looks"


def _write_looks(shelf: Path, place: str, listing: Listing, marks: Mapping[str, Marks]) -> None:
    numbers = array("q", [number for name in listing.digests for number in marks[name]])
    head = listing.digest.encode() + b"\n"
    atomic_write_bytes(shelf / looks_name(place), head + numbers.tobytes())


def _read_looks(shelf: Path, place: str, digest: str) -> dict[str, tuple[Marks, str]]:
    """Name -> how the file looked when it had which digest; empty where it is not known."""
    listing = read_listing(shelf, digest)
    try:
        head, _, content = (shelf / looks_name(place)).read_bytes().partition(b"\n")
        numbers = array("q", content)
    except (OSError, ValueError):
        return {}
    if listing is None or head.decode("ascii", "replace") != digest:
        return {}
    if len(numbers) != _NUM_MARKS * len(listing.digests):
        return {}
    rows = zip(*[iter(numbers)] * _NUM_MARKS, strict=True)
    known = zip(listing.digests.items(), rows, strict=True)
    return {name: (row, mark) for (name, mark), row in known if row != _UNSEEN}


def _look(folder: Path) -> _Seen:
    marks = dict(_files(os.fspath(folder), ""))
    lines = "\n".join(f"{name}\0{look}" for name, look in marks.items())
    return _Seen(marks=marks, signature=sha256(os.fsencode(lines)).hexdigest())


def _files(folder: str, prefix: str) -> Iterator[tuple[str, Marks | None]]:
    """All files below a folder as `storage.artifacts.files_below` orders them, with their marks."""
    folders: list[str] = []
    files: list[os.DirEntry[str]] = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not _is_folder(entry):
                files.append(entry)
            elif not entry.is_symlink():
                folders.append(entry.name)
    for entry in sorted(files, key=lambda entry: entry.name):
        try:
            yield prefix + entry.name, _marks(entry.stat())
        except OSError:
            yield prefix + entry.name, None
    for name in sorted(folders):
        yield from _files(f"{folder}/{name}", f"{prefix}{name}/")


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere
        return False


def _marks(status: os.stat_result) -> Marks | None:
    if not S_ISREG(status.st_mode):
        return None
    inode = status.st_ino & _LARGEST  # some network file systems use all 64 bits
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, inode)


def _digest_or_unreadable(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError:
        return UNREADABLE


def _settled_before() -> int:
    return time.time_ns() - SETTLED_NANOSECONDS


def _as_text(place: str) -> str:
    """A path as text that is UTF-8, whatever its name is."""
    return os.fsencode(place).decode("utf-8", "backslashreplace")


def _read_pages(path: Path) -> _Pages:
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] == _FORMAT:
            return _Pages(files=dict(content["files"]), folders=dict(content["folders"]))
    return _Pages()
