"""Members of a large JSON file one after the other, never the whole file at once.

GQA's training questions are ten files of more than a gigabyte; read whole, one of them takes
several times that.
"""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from storage.errors import MissingFileError, StorageError

_CHUNK_BYTES = 1 << 20
_SPACE = " \t\r\n"
_OF_NUMBER = re.compile(r"[-+.0-9eE]*")
_LONGEST_PIECE = 32
"""Characters of the longest thing that is no JSON while its end is missing, strings aside."""
_DECODER = json.JSONDecoder()
_BOM = "\ufeff"


def members_of(path: Path, error: type[StorageError]) -> Iterator[tuple[str, Any]]:
    """Keys and values of the object that a file holds, in the file's order.

    Args:
        path: the file, UTF-8.
        error: what to raise about its contents.

    Raises:
        MissingFileError: It cannot be opened.
        StorageError: Of the kind given: empty, not UTF-8, not JSON or cut, or no object. What
            came before has been given out by then.
    """
    with _opened(path) as stream:
        yield from _Text(path, stream, error).members()


def elements_of(path: Path, key: str, error: type[StorageError]) -> Iterator[Any]:
    """Elements of a list that is a member of the object a file holds.

    Raises:
        MissingFileError: It cannot be opened.
        StorageError: As `members_of`, or there is no such list.
    """
    with _opened(path) as stream:
        yield from _Text(path, stream, error).elements(key)


def elements(path: Path, error: type[StorageError]) -> Iterator[Any]:
    """Elements of the list that a file holds. Raises as `members_of`."""
    with _opened(path) as stream:
        yield from _Text(path, stream, error).top_elements()


def _opened(path: Path) -> IO[bytes]:
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file") from None
    except OSError as cause:
        raise MissingFileError(f"{path}: {cause.strerror}; check the path") from cause


class _Text:
    """The text of a file, as far as it is looked at."""

    def __init__(self, path: Path, stream: IO[bytes], error: type[StorageError]) -> None:
        self._path = path
        self._stream = stream
        self._error = error
        self._decode = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0
        self._passed = 0
        self._is_whole = False

    def members(self) -> Iterator[tuple[str, Any]]:
        """Keys and values of the object."""
        self._open_object()
        while self._next_member():
            key = self._key()
            yield key, self._value()
        self._expect_end()

    def elements(self, wanted: str) -> Iterator[Any]:
        """Elements of one list; other members are passed over."""
        found: list[str] = []
        is_there = False
        self._open_object()
        while self._next_member():
            key = self._key()
            found.append(key)
            if key != wanted or is_there or self._peek() != "[":
                self._value()
                continue
            is_there = True
            yield from self._list()
        self._expect_end()
        if not is_there:
            shown = ", ".join(map(repr, found[:6])) or "nothing"
            raise self._error(f"{self._path}: no list {wanted!r}; found {shown}")

    def top_elements(self) -> Iterator[Any]:
        """Elements of the list that the file is."""
        self._expect_first("[", "list")
        yield from self._list()
        self._expect_end()

    def _list(self) -> Iterator[Any]:
        """Elements of the list that begins here."""
        self._at += 1
        if self._peek() == "]":
            self._at += 1
            return
        while True:
            yield self._value()
            sign = self._take()
            if sign == "]":
                return
            if sign != ",":
                raise self._broken("a comma or ] was expected")

    def _open_object(self) -> None:
        self._expect_first("{", "object")
        self._at += 1
        self._is_first = True

    def _expect_first(self, sign: str, what: str) -> None:
        first = self._peek()
        if not first:
            raise self._error(f"{self._path}: the file is empty; copy or download it again")
        if first != sign:
            raise self._error(f"{self._path}: a JSON {what} was expected")

    def _next_member(self) -> bool:
        """Go to the next key; False at the object's end."""
        sign = self._peek()
        if sign == "}" and self._is_first:
            self._at += 1
            return False
        if not self._is_first:
            self._at += 1
            if sign == "}":
                return False
            if sign != ",":
                raise self._broken("a comma or } was expected")
        self._is_first = False
        return True

    def _key(self) -> str:
        if self._peek() != '"':
            raise self._broken("a key in quotes was expected")
        key = self._value()
        if self._take() != ":":
            raise self._broken("a colon was expected")
        return str(key)

    def _value(self) -> Any:
        """The value that begins here; more is read until it is whole."""
        self._peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as cause:
                if self._is_whole or not self._may_heal(cause):
                    raise self._broken(cause.msg, cause.pos) from cause
                self._read()
                continue
            except RecursionError:
                raise self._error(f"{self._path}: JSON nested too deeply") from None
            except ValueError:  # Python reads whole numbers of up to 4300 digits
                raise self._error(
                    f"{self._path}: holds a number of thousands of digits; is it the right file?"
                ) from None
            if not self._is_whole and self._may_go_on(end):
                self._read()
                continue
            self._at = end
            return value

    def _may_heal(self, cause: json.JSONDecodeError) -> bool:
        """Whether what is wrong may only be that the rest was not read yet."""
        if cause.msg.startswith("Unterminated string"):
            return True
        return cause.pos + _LONGEST_PIECE >= len(self._text)

    def _may_go_on(self, end: int) -> bool:
        """Whether a value that ends here may be a number cut short: 0 and 0. begin 0.5, too."""
        rest = _OF_NUMBER.match(self._text, end)
        return rest is not None and rest.end() == len(self._text)

    def _peek(self) -> str:
        """The next sign that is no space; "" at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if self._is_whole:
                return ""
            self._read()

    def _take(self) -> str:
        sign = self._peek()
        self._at += len(sign)
        return sign

    def _expect_end(self) -> None:
        if self._peek():
            raise self._broken("something follows the object")

    def _read(self) -> None:
        """Read on; what was passed is forgotten."""
        # a value that needs more than a chunk is tried again with ever more at once
        size = max(_CHUNK_BYTES, len(self._text) - self._at)
        content = self._stream.read(size)
        self._is_whole = not content
        try:
            more = self._decode.decode(content, final=self._is_whole)
        except UnicodeDecodeError as cause:
            raise self._error(
                f"{self._path}: not UTF-8 after character {self._passed + len(self._text)} "
                "(another encoding, GBK perhaps?); convert the file to UTF-8"
            ) from cause
        is_start = not self._passed and not self._text
        self._passed += self._at
        self._text = self._text[self._at :] + (more.removeprefix(_BOM) if is_start else more)
        self._at = 0

    def _broken(self, said: str, at: int | None = None) -> StorageError:
        place = self._passed + (self._at if at is None else at)
        return self._error(
            f"{self._path}: not JSON at character {place}: {said}; was the file cut? copy or "
            "download it again"
        )
