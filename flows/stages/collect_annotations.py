"""Stage: annotation files of any known layout -> one set of shards about the photos of this run.

A record whose photo is not in the run is set aside and counted; so is what a reader could not
use. Records of sources without an official division (`split: auto`) are divided by a hash of the
photo's id, so that everything ever said of a photo lies in the same split. Where sources name
splits themselves and disagree over a photo, that is counted and logged, not refused: published
divisions do so (COCO's captions by Karpathy against its boxes of 2017).
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from flows.photos import read_photo_ids
from flows.progress import SILENT, Progress
from flows.readers import ReaderCall, call_reader
from storage.quarantine import QUARANTINE_NAME, write_quarantine
from storage.records import (
    Annotations,
    CaptionAnnotation,
    ImageObjects,
    ImagePairAnnotation,
    Quarantined,
    QuestionAnnotation,
)

VERSION = 3
AUTO = "auto"
"""The split of a source that has no official one."""

_log = logging.getLogger(__name__)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Readers to call, in order; their files are inputs `number.name`."""

    calls: tuple[ReaderCall, ...] = ()
    auto_split: AutoSplit = field(default_factory=AutoSplit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    images: Path
    files: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    annotations: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """num_split_conflicts: photos that different sources put into different splits."""

    num_in: int
    num_out: int
    num_quarantined: int
    num_split_conflicts: int
    num_captions: int
    num_questions: int
    num_pairs: int
    num_objects: int


def run(config: Config, inputs: Inputs, outputs: Outputs, progress: Progress = SILENT) -> Summary:
    """Read every source, keep what belongs to a photo of this run, say what was dropped."""
    from storage.annotation_shards import write_annotations

    gathered = _Gathered(read_photo_ids(inputs.images), config.auto_split)
    for number, call in enumerate(progress.track(config.calls, unit="sources")):
        files = {name: inputs.files[f"{number}.{name}"] for name in call.file_names}
        gathered.take(call_reader(call, files))
    annotations = gathered.annotations()
    write_annotations(outputs.annotations, annotations)
    write_quarantine(outputs.annotations.parent / QUARANTINE_NAME, gathered.quarantined)
    counts = {
        "num_captions": len(annotations.captions),
        "num_questions": len(annotations.questions),
        "num_pairs": len(annotations.pairs),
        "num_objects": len(annotations.objects),
    }
    num_out, num_quarantined = sum(counts.values()), len(gathered.quarantined)
    conflicts = gathered.split_conflicts()
    if conflicts:
        _log.warning(
            "%d photos lie in several splits, first %r; choose sources that agree, or split: auto",
            len(conflicts),
            conflicts[0],
        )
    return Summary(
        num_in=num_out + num_quarantined,
        num_out=num_out,
        num_quarantined=num_quarantined,
        num_split_conflicts=len(conflicts),
        **counts,
    )


class _Gathered:
    """Everything kept so far, in the order of the sources."""

    def __init__(self, image_ids: frozenset[str], auto_split: AutoSplit) -> None:
        self.quarantined: list[Quarantined] = []
        self._image_ids = image_ids
        self._auto_split = auto_split
        self._asked: dict[tuple[str, str], tuple[str, str]] = {}
        self._splits: defaultdict[str, set[str]] = defaultdict(set)
        self._captions: dict[tuple[str, ...], CaptionAnnotation] = {}
        self._questions: dict[tuple[str, ...], QuestionAnnotation] = {}
        self._pairs: dict[tuple[str, ...], ImagePairAnnotation] = {}
        self._objects: dict[tuple[str, ...], ImageObjects] = {}

    def take(self, read: Annotations) -> None:
        """Take what one reader brought."""
        self.quarantined += read.quarantined
        self._keep(
            self._captions,
            read.captions,
            lambda each: (each.source, each.caption_id, each.language),
        )
        self._keep(
            self._questions,
            map(self._with_own_id, read.questions),
            lambda each: (each.source, each.question_id, each.language),
        )
        self._keep(self._pairs, read.pairs, lambda each: (each.source, each.pair_id))
        self._keep(self._objects, read.objects, lambda each: ())  # one set of boxes a photo

    def split_conflicts(self) -> list[str]:
        """Photos of which something was kept in more than one split."""
        return [image_id for image_id, splits in self._splits.items() if len(splits) > 1]

    def annotations(self) -> Annotations:
        """All that was kept."""
        return Annotations(
            captions=tuple(self._captions.values()),
            questions=tuple(self._questions.values()),
            pairs=tuple(self._pairs.values()),
            objects=tuple(self._objects.values()),
        )

    def _keep(
        self,
        kept: dict[tuple[str, ...], Record],
        records: Iterable[Record],
        own_key: Callable[[Any], tuple[str, ...]],
    ) -> None:
        for record in records:
            image_ids = _image_ids(record)
            strangers = [each for each in image_ids if each not in self._image_ids]
            key = (*own_key(record), *image_ids)
            if strangers:
                detail = f"{record.source}: photo {strangers[0]!r} is not among the photos"
                self._drop(strangers[0], "no-such-image", detail)
            elif key in kept:
                detail = f"{record.source}: a second record {' '.join(key)!r}"
                self._drop(image_ids[0], "duplicate-id", detail)
            else:
                kept[key] = self._divided(record, image_ids[0])
                for image_id in image_ids:
                    self._splits[image_id].add(kept[key].split)

    def _with_own_id(self, question: QuestionAnnotation) -> QuestionAnnotation:
        """Answers are joined by question id alone, and sources number theirs independently."""
        key, asked = (question.question_id, question.language), (question.source, question.image_id)
        if self._asked.setdefault(key, asked) == asked:
            return question
        own = "/".join((*asked, question.question_id))
        return replace(question, question_id=own)

    def _divided(self, record: Record, image_id: str) -> Record:
        if record.split != AUTO:
            return record
        return replace(record, split=self._auto_split.split_of(image_id))

    def _drop(self, image_id: str, reason: str, detail: str) -> None:
        self.quarantined.append(Quarantined(image_id=image_id, reason=reason, detail=detail))


def _image_ids(record: Said) -> tuple[str, ...]:
    if isinstance(record, ImagePairAnnotation):
        return record.left_image_id, record.right_image_id
    return (record.image_id,)
