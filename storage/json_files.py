"""Reads JSON files of others: one clear line for whatever can be wrong with them as a whole."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from storage.errors import MissingFileError, StorageError

_BOM = b"\xef\xbb\xbf"


def read_bytes(path: Path) -> bytes:
    """All bytes of a file, less a UTF-8 byte order mark.

    Raises:
        MissingFileError: There is no such file, it is a folder, or it cannot be opened.
    """
    try:
        return path.read_bytes().removeprefix(_BOM)
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file") from None
    except OSError as error:
        raise MissingFileError(f"{path}: {error.strerror}; check the path") from error


def read_json(path: Path, error: type[StorageError], *, refuse_repeated_keys: bool = False) -> Any:
    """The value of a JSON file in UTF-8, with or without byte order mark.

    NaN and Infinity are taken as Python does; who reads numbers checks them.

    Args:
        path: the file.
        error: what to raise about its contents.
        refuse_repeated_keys: in every object of the file; costs time with large files.

    Raises:
        MissingFileError: It cannot be opened.
        StorageError: Of the kind given: empty, not UTF-8, not JSON (with the byte position), a
            key twice.
    """
    content = read_bytes(path)
    if not content.strip():
        raise error(f"{path}: the file is empty; copy or download it again")
    text = decode_utf8(path, content, error)

    def unrepeated(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        members: dict[str, Any] = {}
        for key, value in pairs:
            if key in members:
                raise error(f"{path}: key {key!r} occurs twice in one object; remove one")
            members[key] = value
        return members

    try:
        return json.loads(text, object_pairs_hook=unrepeated if refuse_repeated_keys else None)
    except json.JSONDecodeError as cause:
        position = len(text[: cause.pos].encode("utf-8"))
        raise error(
            f"{path}: not JSON at byte {position} of {len(content)}, line {cause.lineno}: "
            f"{cause.msg}; was the file cut? copy or download it again"
        ) from cause
    except RecursionError:
        raise error(f"{path}: JSON nested too deeply") from None
    except ValueError:  # Python reads whole numbers of up to 4300 digits
        raise error(
            f"{path}: holds a number of thousands of digits; is it the right file?"
        ) from None


def decode_utf8(path: Path, content: bytes, error: type[StorageError]) -> str:
    """Text of a file's bytes.

    Raises:
        StorageError: Of the kind given, with the byte position, if it is not UTF-8.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as cause:
        raise error(
            f"{path}: byte {cause.start} is not UTF-8 (another encoding, GBK perhaps?); "
            "convert the file to UTF-8"
        ) from cause
