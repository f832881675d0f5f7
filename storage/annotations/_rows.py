"""What all annotation readers do alike: take rows apart, clean text, set aside what is broken.

Every row of a file becomes a record or a `Quarantined` entry. Two reasons keep the row and say
what was taken from it: `text-cut` and `box-clipped`.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from storage.errors import AnnotationError, StorageError
from storage.json_files import read_json
from storage.record_columns import RecordColumns
from storage.records import Annotations, CaptionAnnotation, Quarantined, QuestionAnnotation
from storage.seen import SeenKeys

MAX_CHARACTERS = 1_000
"""Longer captions and questions are cut here; the longest of COCO has about 250 characters."""
MAX_SIDE = 1_000_000
"""No photo is wider or higher [pixels]."""
_MAX_DIGITS = 18

_COCO_NAME = re.compile(r"COCO_(?:train|val|test)20\d\d_(\d{12})")
_DIRECTION = dict.fromkeys(
    [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]
)  # overrides, embeddings


class BrokenRowError(StorageError):
    """One row cannot be used; caught by `Rows.taking`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Of a photo [pixels]; 0 where it was not asked for."""

    height: int = 0
    width: int = 0


class RowImage:
    """Which image a row speaks of, as far as known."""

    image_id = ""


class Rows:
    """Records and dropped rows of one file, or of several that belong together."""

    def __init__(
        self, path: Path, *, namespace: str, split: str, language: str, source: str
    ) -> None:
        """Start with nothing.

        Args:
            path: the file, for messages.
            namespace: first part of image ids; "" for none.
            split: of every record, unless a record says otherwise.
            language: of every text.
            source: name of the data set.
        """
        self.path = path
        self.captions: RecordColumns[CaptionAnnotation] = RecordColumns("captions")
        self.questions: RecordColumns[QuestionAnnotation] = RecordColumns("questions")
        self.quarantined: list[Quarantined] = []
        self._namespace = namespace
        self._split = split
        self._language = language
        self._source = source
        self._seen = SeenKeys()

    def image_id(self, file_name: str) -> str:
        """`namespace/stem`; COCO's 2014 names lose their prefix, as the 2017 names have none.

        Raises:
            BrokenRowError: The name is empty.
        """
        name = file_name.strip()
        stem = str(PurePosixPath(name).with_suffix("")) if name else ""
        published = _COCO_NAME.fullmatch(stem)
        stem = published[1] if published else stem
        if not stem:
            raise BrokenRowError("no-image", "the image has no name")
        return f"{self._namespace}/{stem}" if self._namespace else stem

    def coco_image_id(self, row: object) -> str:
        """Image id of a row's COCO number, twelve digits; of a text as it is.

        Raises:
            BrokenRowError: It has neither.
        """
        text = text_of(row, "image_id")
        return self.image_id(text if isinstance(member(row, "image_id"), str) else f"{text:0>12}")

    @contextmanager
    def taking(self, what: str) -> Iterator[RowImage]:
        """Set the row aside if the block finds a problem with it.

        Args:
            what: names the row in the message, e.g. `annotation 17`.

        Yields:
            Where the block notes the row's image once it is known.
        """
        place = RowImage()
        try:
            yield place
        except BrokenRowError as problem:
            self.drop(place.image_id, problem.reason, f"{what}: {problem.detail}")

    def drop(self, image_id: str, reason: str, detail: str) -> None:
        """Set something aside."""
        self.quarantined.append(
            Quarantined(
                image_id=image_id or self.path.name,
                reason=reason,
                detail=" ".join(f"{self.path.name}: {detail}".split()),
            )
        )

    def check_new(self, key: str) -> None:
        """Remember an id.

        Raises:
            BrokenRowError: It was there before.
        """
        if not self._seen.add(key):
            raise BrokenRowError("duplicate-id", "its id occurred before; the first one is kept")

    def add_caption(
        self,
        text: object,
        *,
        image_id: str,
        caption_id: str,
        split: str | None = None,
        source: str | None = None,
    ) -> None:
        """Take a caption.

        Raises:
            BrokenRowError: The text is none, or the id is known.
        """
        cleaned = self.cleaned(text, "caption", image_id, caption_id)
        self.check_new(f"caption {caption_id}")
        self.captions.append(
            CaptionAnnotation(
                image_id=image_id,
                caption_id=caption_id,
                text=cleaned,
                language=self._language,
                split=split or self._split,
                source=source or self._source,
            )
        )

    def add_question(
        self,
        text: object,
        *,
        image_id: str,
        question_id: str,
        answers: Sequence[str],
        question_type: str = "",
        answer_type: str = "",
        split: str | None = None,
        source: str | None = None,
    ) -> None:
        """Take a question.

        Raises:
            BrokenRowError: The text is none, or the id is known.
        """
        cleaned = self.cleaned(text, "question", image_id, question_id)
        self.check_new(f"question {question_id}")
        self.questions.append(
            QuestionAnnotation(
                image_id=image_id,
                question_id=question_id,
                question=cleaned,
                answers=tuple(answers),
                language=self._language,
                split=split or self._split,
                source=source or self._source,
                question_type=question_type,
                answer_type=answer_type,
            )
        )

    def cleaned(self, text: object, what: str, image_id: str = "", number: str = "") -> str:
        """A text on one line, without control and direction characters, not too long.

        Raises:
            BrokenRowError: No text, nothing but white space, or half of a surrogate pair.
        """
        if not isinstance(text, str):
            raise BrokenRowError("not-text", f"the {what} is not text but {_shown(text)}")
        plain = " ".join(text.translate(_DIRECTION).split())
        plain = "".join(sign for sign in plain if unicodedata.category(sign) != "Cc")
        plain = " ".join(plain.split())
        if not plain:
            raise BrokenRowError("empty-text", f"the {what} is empty")
        try:
            plain.encode("utf-8")
        except UnicodeEncodeError:
            raise BrokenRowError("bad-unicode", f"the {what} holds half a character") from None
        if len(plain) > MAX_CHARACTERS:
            named = f"{what} {number}".strip()
            self.drop(
                image_id,
                "text-cut",
                f"{named}: {len(plain)} characters, kept the first {MAX_CHARACTERS}",
            )
            plain = plain[:MAX_CHARACTERS].rstrip()
        return plain

    def annotations_of_some(self, what: str) -> Annotations:
        """The same, where at least one row must have been usable.

        Raises:
            AnnotationError: Not one was.
        """
        if not len(self.captions) and not len(self.questions):
            why = self.quarantined[0].detail if self.quarantined else "there is nothing in it"
            raise AnnotationError(f"{self.path}: no line holds {what}; {why}")
        return self.annotations()

    def annotations(self) -> Annotations:
        """All captions, questions and dropped rows so far."""
        return Annotations(
            captions=self.captions.records(),
            questions=self.questions.records(),
            quarantined=tuple(self.quarantined),
        )


def named(row: object, key: str) -> str:
    """A row's own id for messages, whatever it is; "?" without one."""
    return _shown(row[key]) if isinstance(row, dict) and key in row else "?"


def read_object(path: Path) -> Mapping[str, Any]:
    """The object a JSON file holds.

    Raises:
        MissingFileError: There is no such file.
        AnnotationError: It cannot be read, or holds something else.
    """
    content = read_json(path, AnnotationError)
    if not isinstance(content, dict):
        raise AnnotationError(f"{path}: a JSON object was expected, found {_shown(content)}")
    return content


def read_list(path: Path) -> list[Any]:
    """The list a JSON file holds. Raises as `read_object`."""
    content = read_json(path, AnnotationError)
    if not isinstance(content, list):
        raise AnnotationError(f"{path}: a JSON list was expected, found {_shown(content)}")
    return content


def list_of(path: Path, content: Mapping[str, Any], key: str) -> list[Any]:
    """A list that a file must have.

    Raises:
        AnnotationError: It has not.
    """
    rows = content.get(key)
    if not isinstance(rows, list):
        raise AnnotationError(
            f"{path}: no list {key!r}; found {', '.join(map(repr, list(content)[:6])) or 'nothing'}"
        )
    return rows


def whole_number(row: object, key: str) -> int:
    """A member that is a whole number; digits in a text count.

    Raises:
        BrokenRowError: The row is no object, or the member is missing or of another kind.
    """
    value = member(row, key)
    if isinstance(value, str) and value.isdecimal() and len(value) <= _MAX_DIGITS:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise BrokenRowError("bad-row", f"{key!r} must be a whole number, not {_shown(value)}")
    return value


def size_of_photo(row: object) -> Size:
    """Members `height` and `width` [pixels].

    Raises:
        BrokenRowError: A side is missing, no whole number, or not one of a photo.
    """
    height, width = whole_number(row, "height"), whole_number(row, "width")
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise BrokenRowError("bad-size", f"size {_shown(width)}x{_shown(height)} is not a photo's")
    return Size(height=height, width=width)


def text_of(row: object, key: str) -> str:
    """A member that is text; a whole number becomes its digits. Raises as `whole_number`."""
    value = member(row, key)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BrokenRowError("bad-row", f"{key!r} must be text, not {_shown(value)}")
    return str(value)


def member(row: object, key: str) -> Any:
    """A member of any kind but null. Raises as `whole_number`."""
    if not isinstance(row, dict):
        raise BrokenRowError("bad-row", f"an object was expected, found {_shown(row)}")
    if row.get(key) is None:
        raise BrokenRowError("bad-row", f"{key!r} is missing")
    return row[key]


def _shown(value: object) -> str:
    """A value for a message: short, on one line."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= 60 else shown[:57] + "..."
