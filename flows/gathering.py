"""Joins what readers bring with the photos of a run, record by record.

Nothing is held but digests of ids: what is kept or set aside is handed on at once.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, TypeVar

from storage.records import (
    Annotations,
    CaptionAnnotation,
    ImageObjects,
    ImagePairAnnotation,
    Quarantined,
    QuestionAnnotation,
)
from storage.seen import SeenKeys

AUTO = "auto"
"""The split of a source that has no official one."""

Said = CaptionAnnotation | QuestionAnnotation | ImagePairAnnotation | ImageObjects
Record = TypeVar("Record", bound=Said)


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoSplit:
    """Shares of the photos that `split: auto` gives to validation and test; the rest trains."""

    val: float = 0.1
    test: float = 0.2

    def __post_init__(self) -> None:
        """Leave something to train on."""
        if min(self.val, self.test) < 0 or self.val + self.test >= 1:
            raise ValueError("auto_split: val and test must be shares that leave room for training")

    def split_of(self, image_id: str) -> str:
        """The split of a photo: always the same one, whatever else is in the run.

        The namespace does not count: GQA and Visual Genome hold the same photos under two names.
        """
        stem = image_id.rpartition("/")[2]
        first = int.from_bytes(sha256(stem.encode("utf-8", "surrogatepass")).digest()[:8])
        place = first / 2**64
        if place < self.test:
            return "test"
        return "val" if place < self.test + self.val else "train"


class Gathering:
    """Everything that was taken so far decides what of the next source is new.

    num_in:        what the readers brought: records, and entries about what they could not use
    """

    def __init__(
        self,
        image_ids: Collection[str],
        auto_split: AutoSplit,
        *,
        keep: Callable[[Said], None],
        drop: Callable[[Quarantined, str], None],
    ) -> None:
        """Begin with nothing.

        Args:
            image_ids: ids of the photos of the run.
            auto_split: for sources with `split: auto`.
            keep: is given every record that is used.
            drop: is given what is set aside, with the name of its reader.
        """
        self._image_ids = image_ids
        self._auto_split = auto_split
        self._hand_on = keep
        self._drop = drop
        self._known = SeenKeys()
        self._asked = SeenKeys()
        self._splits = SeenKeys()
        self._conflicts = SeenKeys()
        self.first_conflict = ""
        self.num_in = 0

    def take(self, read: Annotations, reader: str) -> None:
        """Take what one reader brought."""
        for entry in read.quarantined:
            self.num_in += 1
            self._drop(entry, reader)
        others = read.other_ids
        self._keep(
            read.captions,
            reader,
            others,
            lambda each: (each.source, each.caption_id, each.language),
        )
        self._keep(
            map(self._with_own_id, read.questions),
            reader,
            others,
            lambda each: (each.source, each.question_id, each.language),
        )
        self._keep(read.pairs, reader, others, lambda each: (each.source, each.pair_id))
        self._keep(read.objects, reader, others, lambda each: ())  # one set of boxes a photo

    @property
    def num_conflicts(self) -> int:
        """Photos of which something was kept in more than one split."""
        return len(self._conflicts)

    def _keep(
        self,
        records: Iterable[Record],
        reader: str,
        others: Mapping[str, tuple[str, ...]],
        own_key: Callable[[Any], tuple[str, ...]],
    ) -> None:
        for record in records:
            self.num_in += 1
            joined = self._joined(record, others)
            ids = image_ids_of(joined)
            strangers = [each for each in ids if each not in self._image_ids]
            key = "\0".join((type(record).__name__, *own_key(record), *ids))
            if strangers:
                detail = f"{record.source}: photo {strangers[0]!r} is not among the photos"
                self._set_aside(strangers[0], "no-such-image", detail, reader)
            elif not self._known.add(key):
                said = " ".join((*own_key(record), *ids))
                detail = f"{record.source}: a second record {said!r}"
                self._set_aside(ids[0], "duplicate-id", detail, reader)
            else:
                kept = self._divided(joined, ids[0])
                for image_id in ids:
                    if not self._splits.belongs(image_id, kept.split):
                        self._conflicts.add(image_id)
                        self.first_conflict = self.first_conflict or image_id
                self._hand_on(kept)

    def _joined(self, record: Record, others: Mapping[str, tuple[str, ...]]) -> Record:
        """The record under the id by which its photo is here."""
        if not others or isinstance(record, ImagePairAnnotation):
            return record
        image_id = record.image_id
        if image_id in self._image_ids:
            return record
        found = next((each for each in others.get(image_id, ()) if each in self._image_ids), None)
        return record if found is None else replace(record, image_id=found)

    def _with_own_id(self, question: QuestionAnnotation) -> QuestionAnnotation:
        """Answers are joined by question id alone, and sources number theirs independently."""
        asked = "/".join((question.source, question.image_id))
        if self._asked.belongs(f"{question.question_id}\0{question.language}", asked):
            return question
        return replace(question, question_id=f"{asked}/{question.question_id}")

    def _divided(self, record: Record, image_id: str) -> Record:
        if record.split != AUTO:
            return record
        return replace(record, split=self._auto_split.split_of(image_id))

    def _set_aside(self, image_id: str, reason: str, detail: str, reader: str) -> None:
        self._drop(Quarantined(image_id=image_id, reason=reason, detail=detail), reader)


def image_ids_of(record: Said) -> tuple[str, ...]:
    """The photos that a record is about."""
    if isinstance(record, ImagePairAnnotation):
        return record.left_image_id, record.right_image_id
    return (record.image_id,)
