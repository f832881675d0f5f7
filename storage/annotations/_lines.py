"""Annotation files of one caption a line, and the lists of photo names that divide them.

A line that is not UTF-8 is reported by its number; a file with more such lines than good ones is
in another encoding as a whole.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from storage.annotations._rows import BrokenRowError, Rows
from storage.errors import AnnotationError
from storage.json_files import read_bytes

_MAX_DIGITS = 18


def lines_of(path: Path, rows: Rows) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each line that is not empty; LF or CRLF.

    Raises:
        MissingFileError: There is no such file.
        AnnotationError: Empty, or in another encoding.
    """
    content = read_bytes(path)
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise AnnotationError(f"{path}: UTF-16, not UTF-8; convert the file to UTF-8")
    numbered = [
        (number, line)
        for number, raw in enumerate(content.split(b"\n"), start=1)
        if (line := raw.removesuffix(b"\r")).strip()
    ]
    if not numbered:
        raise AnnotationError(f"{path}: the file is empty; copy or download it again")
    decoded = [(number, _decoded(line)) for number, line in numbered]
    broken = [number for number, text in decoded if text is None]
    if 2 * len(broken) > len(decoded):
        raise AnnotationError(
            f"{path}: {len(broken)} of {len(decoded)} lines are not UTF-8 (another encoding, "
            "GBK perhaps?); convert the file to UTF-8"
        )
    for number, text in decoded:
        if text is None:
            rows.drop("", "not-utf8", f"line {number}: bytes that are not UTF-8")
        else:
            yield number, text


def take_captions(path: Path, rows: Rows, split_lists: Mapping[str, Path] | None) -> None:
    """Take all captions of a file of lines `<photo>#<number>` TAB sentence.

    Args:
        path: the caption file.
        rows: where the captions go.
        split_lists: as in `read_split_lists`; a photo in none of them is set aside.

    Raises:
        MissingFileError: A file does not exist.
        AnnotationError: A file is not in this layout, or a photo is in two splits.
    """
    splits = read_split_lists(split_lists)
    for number, line in lines_of(path, rows):
        with rows.taking(f"line {number}") as place:
            label, tab, text = line.partition("\t")
            name, sharp, index = label.rpartition("#")
            if not tab or not sharp:
                raise BrokenRowError("bad-row", "must be <photo>#<number>, a tab and the caption")
            place.image_id = rows.image_id(name)
            rows.add_caption(
                text,
                image_id=place.image_id,
                caption_id=f"{name}#{caption_number(index)}",
                split=split_of(name, splits),
            )


def take_captions_of_kinds(
    path: Path,
    rows: Rows,
    split_lists: Mapping[str, Path] | None,
    sentence: Callable[[str, str], str],
) -> None:
    """Take all captions of a file of lines `<photo>#<kind>#<number>`, a space and the sentence.

    Args:
        path: the caption file.
        rows: where the captions go.
        split_lists: as in `read_split_lists`; a photo in none of them is set aside.
        sentence: of a kind and the text behind the space.

    Raises:
        MissingFileError: A file does not exist.
        AnnotationError: A file is not in this layout, or a photo is in two splits.
    """
    splits = read_split_lists(split_lists)
    for number, line in lines_of(path, rows):
        with rows.taking(f"line {number}") as place:
            label, _, text = line.partition(" ")
            parts = label.rsplit("#", 2)
            if len(parts) != 3:
                raise BrokenRowError("bad-row", "must be <photo>#<kind>#<number> and a caption")
            name, kind, index = parts
            place.image_id = rows.image_id(name)
            rows.add_caption(
                sentence(kind, text),
                image_id=place.image_id,
                caption_id=f"{name}#{kind}#{caption_number(index)}",
                split=split_of(name, splits),
            )


def read_split_lists(split_lists: Mapping[str, Path] | None) -> dict[str, str] | None:
    """Photo name without suffix -> split, from one file of names a split; None if there are none.

    Raises:
        MissingFileError: A list does not exist.
        AnnotationError: A list is empty or not UTF-8, or a photo is in two of them.
    """
    if not split_lists:
        return None
    splits: dict[str, str] = {}
    for split, path in split_lists.items():
        rows = Rows(path, namespace="", split=split, language="", source="")
        for number, line in lines_of(path, rows):
            name = stem_of(line.strip())
            if splits.setdefault(name, split) != split:
                raise AnnotationError(
                    f"{path}: line {number}: photo {name!r} is also in the list of "
                    f"{splits[name]!r}; a photo belongs to one split"
                )
        if rows.quarantined:
            raise AnnotationError(f"{path}: {rows.quarantined[0].detail.partition(': ')[2]}")
    return splits


def split_of(name: str, splits: Mapping[str, str] | None) -> str | None:
    """Split of a photo name; None where no lists were given.

    Raises:
        BrokenRowError: No list names it.
    """
    if splits is None:
        return None
    try:
        return splits[stem_of(name)]
    except KeyError:
        raise BrokenRowError("in-no-split", f"photo {name!r} is in no split list") from None


def caption_number(text: str) -> int:
    """The number behind `#`.

    Raises:
        BrokenRowError: It is no number.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        raise BrokenRowError("bad-row", f"caption number {text!r} is not a number")
    return int(text)


def stem_of(name: str) -> str:
    """A photo's name without its suffix."""
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.suffix.lower() in {".jpg", ".jpeg", ".png"} else name


def _decoded(line: bytes) -> str | None:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return None
