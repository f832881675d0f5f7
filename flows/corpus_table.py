"""The corpora of a run as a table: photos and texts of each source, and what did not join, why.

The published table of the mixture has the same two numbers a source (photos and texts).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table
from rich.text import Text

from storage.records import (
    CaptionAnnotation,
    ImageObjects,
    ImagePairAnnotation,
    Quarantined,
    QuestionAnnotation,
)
from storage.seen import SeenKeys

_ORDER = {"train": 0, "val": 1, "test": 2}
NUM_NAMED = 5
"""Ids named of each kind of failure."""
KEPT = frozenset({"text-cut", "box-clipped"})
"""Reasons that keep the record and say what was taken from it."""
TEXTS = ("captions", "questions", "pairs")
REASONS: Mapping[str, str] = {
    "no-such-image": "its photo is not in the run: not there, or under another namespace",
    "duplicate-id": "the same record came before; the first is kept",
    "in-no-split": "its photo is in none of the split lists",
    "unknown-image": "its photo is not in the file's own list of images",
    "other-image": "its parts name different photos",
    "no-image": "it names no photo",
    "no-answers": "it has no answers",
    "unknown-question": "answers to a question that is not in the question file",
    "no-second-text": "neither class names nor an answer beside it",
    "empty-text": "the text is empty",
    "not-text": "the text is no text",
    "bad-unicode": "the text holds half a character",
    "not-utf8": "the line is not UTF-8",
    "bad-row": "the row is not in the file's layout",
    "bad-box": "a box of no area, or outside the photo",
    "damaged-features": "the features cannot be read",
    "text-cut": "kept: a text longer than 1,000 characters was cut",
    "box-clipped": "kept: a box far over the border was cut",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusRow:
    """What one source says in one language about the photos of one split.

    kind: "captions", "questions", "pairs" or "objects"
    """

    source: str
    kind: str
    language: str
    split: str
    num_images: int
    num_texts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Records of a source that could not be used, for one reason.

    first_ids: of the photos they are about
    example:   what was said of the first
    """

    source: str
    reason: str
    explanation: str
    num: int
    first_ids: tuple[str, ...]
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Photos without a text, for one reason. first_ids: of some of them."""

    reason: str
    num: int
    first_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoRow:
    """Photos of a namespace, how many of them anything is said about, and why not of the others."""

    namespace: str
    num_photos: int
    num_spoken_of: int
    silent: tuple[Silence, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusTable:
    """All of it."""

    rows: tuple[CorpusRow, ...] = ()
    failures: tuple[Failure, ...] = ()
    photos: tuple[PhotoRow, ...] = ()

    @property
    def num_texts(self) -> int:
        """Captions, questions and pairs."""
        return sum(row.num_texts for row in self.rows if row.kind in TEXTS)

    def num_of(self, kind: str) -> int:
        """Records of one kind."""
        return sum(row.num_texts for row in self.rows if row.kind == kind)

    def as_json(self) -> dict[str, Any]:
        """For `corpus.json`."""
        return asdict(self)

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> "CorpusTable":
        """Back from `as_json`.

        Raises:
            KeyError, TypeError: It is something else.
        """
        return CorpusTable(
            rows=tuple(CorpusRow(**row) for row in content["rows"]),
            failures=tuple(
                Failure(**{**row, "first_ids": tuple(row["first_ids"])})
                for row in content["failures"]
            ),
            photos=tuple(map(_photo_row, content["photos"])),
        )

    def tables(self) -> tuple[Table, ...]:
        """For the terminal: sources, failures, photos; without those that are empty."""
        found = [_of_rows(self.rows)]
        if self.failures:
            found.append(_of_failures(self.failures))
        if self.photos:
            found.append(_of_photos(self.photos))
        if any(row.silent for row in self.photos):
            found.append(_of_silent(self.photos))
        return tuple(found)


@dataclass(slots=True)
class _Dropped:
    num: int = 0
    first_ids: dict[str, None] = field(default_factory=dict)
    example: str = ""

    def count(self, image_id: str) -> None:
        """One more, its photo named if it is among the first."""
        self.num += 1
        if len(self.first_ids) < NUM_NAMED:
            self.first_ids[image_id] = None


class CorpusCounts:
    """Counts records as they come; a photo costs some bytes a source."""

    def __init__(self) -> None:
        self._images: defaultdict[tuple[str, str, str, str], SeenKeys] = defaultdict(SeenKeys)
        self._texts: defaultdict[tuple[str, str, str, str], int] = defaultdict(int)
        self._dropped: defaultdict[tuple[str, str], _Dropped] = defaultdict(_Dropped)
        self._spoken_of = SeenKeys()
        self._boxed = SeenKeys()
        self._set_aside = SeenKeys()
        self._num_spoken_of: defaultdict[str, int] = defaultdict(int)

    def take(
        self,
        record: CaptionAnnotation | QuestionAnnotation | ImagePairAnnotation | ImageObjects,
    ) -> None:
        """Count a record that was kept."""
        kind, ids = _kind_and_images(record)
        language = "" if isinstance(record, ImageObjects) else record.language
        key = (record.source, kind, language, record.split)
        self._texts[key] += 1
        for image_id in ids:
            self._images[key].add(image_id)
            if kind not in TEXTS:
                self._boxed.add(image_id)
            if kind in TEXTS and self._spoken_of.add(image_id):
                self._num_spoken_of[namespace_of(image_id)] += 1

    def drop(self, entry: Quarantined, source: str) -> None:
        """Count a record that was set aside."""
        dropped = self._dropped[source, entry.reason]
        dropped.count(entry.image_id)
        if entry.reason != "no-such-image":  # of them there may be millions
            self._set_aside.add(entry.image_id)
        dropped.example = dropped.example or entry.detail

    def table(self, photos: Iterable[str] = ()) -> CorpusTable:
        """What was counted.

        Args:
            photos: ids of all photos there are; none where there are none to compare with.
        """
        num_photos: defaultdict[str, int] = defaultdict(int)
        silent: defaultdict[str, defaultdict[str, _Dropped]] = defaultdict(
            lambda: defaultdict(_Dropped)
        )
        for image_id in photos:
            namespace = namespace_of(image_id)
            num_photos[namespace] += 1
            if image_id not in self._spoken_of:
                silent[namespace][self._why_silent(image_id)].count(image_id)
        return CorpusTable(
            rows=tuple(
                CorpusRow(
                    source=key[0],
                    kind=key[1],
                    language=key[2],
                    split=key[3],
                    num_images=len(self._images[key]),
                    num_texts=num,
                )
                for key, num in self._texts.items()
            ),
            failures=tuple(
                Failure(
                    source=source,
                    reason=reason,
                    explanation=REASONS.get(reason, "see its line in quarantine.jsonl"),
                    num=dropped.num,
                    first_ids=tuple(dropped.first_ids),
                    example=dropped.example,
                )
                for (source, reason), dropped in self._dropped.items()
            ),
            photos=tuple(
                PhotoRow(
                    namespace=name,
                    num_photos=num,
                    num_spoken_of=self._num_spoken_of[name],
                    silent=tuple(
                        Silence(reason=why, num=each.num, first_ids=tuple(each.first_ids))
                        for why, each in silent[name].items()
                    ),
                )
                for name, num in sorted(num_photos.items())
            ),
        )

    def _why_silent(self, image_id: str) -> str:
        """Why a photo has no text."""
        if image_id in self._set_aside:
            return "what was said about it was set aside, see above"
        return "only boxes, no text" if image_id in self._boxed else "no source names it"


def namespace_of(image_id: str) -> str:
    """First part of an image id; "" where it has only one."""
    return image_id.partition("/")[0] if "/" in image_id else ""


def _photo_row(row: Mapping[str, Any]) -> PhotoRow:
    """Back from JSON; a table of an earlier version names no silent photos."""
    silent = tuple(
        Silence(**{**each, "first_ids": tuple(each["first_ids"])}) for each in row.get("silent", ())
    )
    return PhotoRow(**{**row, "silent": silent})


def _kind_and_images(record: object) -> tuple[str, tuple[str, ...]]:
    if isinstance(record, ImagePairAnnotation):
        return "pairs", (record.left_image_id, record.right_image_id)
    if isinstance(record, CaptionAnnotation):
        return "captions", (record.image_id,)
    if isinstance(record, QuestionAnnotation):
        return "questions", (record.image_id,)
    assert isinstance(record, ImageObjects)
    return "objects", (record.image_id,)


def _of_rows(rows: Sequence[CorpusRow]) -> Table:
    """One line for each source, kind and language; texts of each split behind."""
    table = Table(box=None, pad_edge=False)
    for heading in ("source", "what", "language"):
        table.add_column(heading, no_wrap=True)
    splits = sorted({row.split for row in rows}, key=lambda name: (_ORDER.get(name, 9), name))
    for heading in ("photos", "texts", *splits):
        table.add_column(heading, justify="right")
    lines: dict[tuple[str, str, str], dict[str, CorpusRow]] = {}
    for row in rows:
        lines.setdefault((row.source, row.kind, row.language), {})[row.split] = row
    for key, by_split in lines.items():
        numbers = [
            sum(row.num_images for row in by_split.values()),
            sum(row.num_texts for row in by_split.values()),
            *(by_split[name].num_texts if name in by_split else 0 for name in splits),
        ]
        table.add_row(*key, *(f"{number:,}" for number in numbers))
    return table


def _of_failures(failures: Iterable[Failure]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("source", no_wrap=True)
    table.add_column("did not join", justify="right")
    for heading in ("why", "first photos"):
        table.add_column(heading)
    for each in failures:
        shown = ", ".join(each.first_ids) + (", ..." if each.num > len(each.first_ids) else "")
        why = f"{each.explanation} ({each.reason})"
        table.add_row(each.source, f"{each.num:,}", Text(why), Text(shown))
    return table


def _of_photos(photos: Iterable[PhotoRow]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("photos of", no_wrap=True)
    for heading in ("there", "with a text", "without"):
        table.add_column(heading, justify="right")
    for row in photos:
        left = row.num_photos - row.num_spoken_of
        table.add_row(
            row.namespace or "-", f"{row.num_photos:,}", f"{row.num_spoken_of:,}", f"{left:,}"
        )
    return table


def _of_silent(photos: Iterable[PhotoRow]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("photos of", no_wrap=True)
    table.add_column("without a text", justify="right")
    for heading in ("why", "first photos"):
        table.add_column(heading)
    for row in photos:
        for each in row.silent:
            more = ", ..." if each.num > len(each.first_ids) else ""
            shown = ", ".join(each.first_ids) + more
            name = row.namespace or "-"
            table.add_row(name, f"{each.num:,}", each.reason, Text(shown))
    return table
