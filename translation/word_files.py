"""Files of words: strict JSON objects, whatever is wrong with one told in one line."""

import json
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from translation.errors import DictionaryError

_BOM = b"\xef\xbb\xbf"


class Members(tuple[tuple[str, Any], ...]):
    """Members of a JSON object in their order, a key as often as it occurs."""

    __slots__ = ()


def read_members(path: Path) -> Members:
    """The members of the one object that a JSON file holds, objects inside as `Members` too.

    The file must be UTF-8; a byte order mark at its start is skipped.

    Raises:
        DictionaryError: It cannot be opened, is empty, not UTF-8, not JSON (with the byte
            position), or holds no object.
    """
    try:
        content = path.read_bytes().removeprefix(_BOM)
    except OSError as error:
        raise DictionaryError(f"{path}: {error.strerror or error}; check the path") from error
    except ValueError as error:
        raise DictionaryError(f"{str(path)!r}: {error}") from error
    if not content.strip():
        raise DictionaryError(f"{path}: the file is empty; copy or download it again")
    try:
        text = content.decode("utf-8")
        value = json.loads(text, object_pairs_hook=Members)
    except UnicodeDecodeError as error:
        raise DictionaryError(
            f"{path}: byte {error.start} is not UTF-8 (another encoding, GBK perhaps?); convert "
            "the file to UTF-8"
        ) from error
    except json.JSONDecodeError as error:
        position = len(text[: error.pos].encode("utf-8"))
        raise DictionaryError(
            f"{path}: not JSON at byte {position} of {len(content)}, line {error.lineno}: "
            f"{error.msg}; was the file cut?"
        ) from error
    except (RecursionError, ValueError) as error:
        raise DictionaryError(f"{path}: not a dictionary ({error})") from error
    if not isinstance(value, Members):
        raise DictionaryError(f"{path}: holds no JSON object {{english: chinese, ...}}")
    return value


def word_problem(value: object) -> str:
    """Why a value is no word; "" where it is one."""
    if not isinstance(value, str):
        return f"is {_kind(value)}, not text"
    if not value.strip():
        return "is empty"
    if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in value.strip()):
        return "holds a control character or half of a surrogate pair"
    return ""


def raise_together(path: Path, problems: Iterable[str]) -> None:
    """Raise one error for all problems of a file, if there are any.

    Raises:
        DictionaryError: The first six in words, the others counted.
    """
    found = list(problems)
    if found:
        more = f"; and {len(found) - 6} more" if len(found) > 6 else ""
        noun = "entry" if len(found) == 1 else "entries"
        raise DictionaryError(
            f"{path}: {len(found)} bad {noun}: {'; '.join(found[:6])}{more}; mend or remove them"
        )


def _kind(value: object) -> str:
    names = {Members: "an object", list: "a list", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
