"""Translations that were made once, by the SHA-256 of everything they follow from.

One SQLite file that several runs may use at the same time. It holds nothing that cannot be made
again: a damaged one is set aside and a new one begun.
"""

import errno
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Self

_SECONDS_TO_WAIT = 60.0
_KEYS_AT_ONCE = 500
_TABLE = (
    "CREATE TABLE IF NOT EXISTS sentences "
    "(key BLOB PRIMARY KEY, text TEXT NOT NULL, problem TEXT NOT NULL) WITHOUT ROWID"
)
_NUMBERS = {
    "full": errno.ENOSPC,
    "locked": errno.EAGAIN,
    "readonly": errno.EROFS,
    "unable to open": errno.EACCES,
}
"""Part of what SQLite says -> the error number of it; anything else is a disk error."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """What a model made of a sentence. problem: why it is of no use, "" where it is."""

    text: str
    problem: str = ""


class SentenceCache:
    """Renderings by sentence; each `keep` is on the disk whole or not at all."""

    def __init__(self, path: Path, identity: str) -> None:
        """Open or make the file.

        Args:
            path: of the file; its folder is made.
            identity: of model, languages and settings; another one's renderings are not seen.

        Raises:
            OSError: It cannot be made or opened.
        """
        self._path = path
        self._identity = identity
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise self._told(error) from error
            self._set_aside(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def find(self, sentences: Sequence[str]) -> dict[str, Rendering]:
        """What is known of some sentences.

        Raises:
            OSError: The file cannot be read.
        """
        sentence_by_key = {self._key(each): each for each in sentences}
        keys = list(sentence_by_key)
        found: dict[str, Rendering] = {}
        with self._telling():
            for start in range(0, len(keys), _KEYS_AT_ONCE):
                part = keys[start : start + _KEYS_AT_ONCE]
                marks = ",".join("?" * len(part))
                rows = self._connection.execute(
                    f"SELECT key, text, problem FROM sentences WHERE key IN ({marks})", part
                )
                for key, text, problem in rows:
                    found[sentence_by_key[key]] = Rendering(text=text, problem=problem)
        return found

    def keep(self, renderings: Mapping[str, Rendering]) -> None:
        """Store renderings by sentence.

        Raises:
            OSError: Disk full, no permission, ...
        """
        rows: Iterable[tuple[bytes, str, str]] = (
            (self._key(sentence), each.text, each.problem) for sentence, each in renderings.items()
        )
        with self._telling(), self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO sentences VALUES (?, ?, ?)", rows)

    def _key(self, sentence: str) -> bytes:
        return sha256(f"{self._identity}\0{sentence}".encode("utf-8", "surrogatepass")).digest()

    def _open(self) -> None:
        self._connection = sqlite3.connect(self._path, timeout=_SECONDS_TO_WAIT)
        try:
            # a kill loses nothing and a power cut the last batches, for no wait at each of them
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(_TABLE)
            self._connection.execute("SELECT key, text, problem FROM sentences LIMIT 1").fetchall()
        except sqlite3.Error:
            self._connection.close()
            raise

    def _set_aside(self, error: Exception) -> None:
        aside = self._path.with_name(f"{self._path.name}.damaged")
        _LOG.warning("%s: %s; set aside as %s, a new one is begun", self._path, error, aside.name)
        os.replace(self._path, aside)
        for suffix in ("-journal", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        self._open()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """SQLite's errors as those of the operating system that they come from."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._told(error) from error

    def _told(self, error: sqlite3.Error) -> OSError:
        said = str(error)
        number = next((each for words, each in _NUMBERS.items() if words in said), errno.EIO)
        return OSError(number, f"{os.strerror(number)} ({said})", str(self._path))
