"""Records of what people said as Arrow columns, and back.

Records are gathered a few thousand at a time and then kept as columns: a caption costs its bytes
instead of a Python object and five texts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa

from storage.mapped import ROWS_PER_BATCH
from storage.records import (
    CaptionAnnotation,
    ImageObjects,
    ImagePairAnnotation,
    ImageTags,
    QuestionAnnotation,
)
from storage.schemas import SCHEMAS
from storage.selections import Selection

T = TypeVar("T")

KIND_OF: Mapping[type, str] = {
    CaptionAnnotation: "captions",
    QuestionAnnotation: "questions",
    ImagePairAnnotation: "pairs",
    ImageObjects: "objects",
    ImageTags: "tags",
}


def batch_of(kind: str, records: Sequence[Any]) -> pa.RecordBatch:
    """Some records of one kind as columns."""
    schema = SCHEMAS[kind]
    columns = []
    for field in schema:
        values = [getattr(record, field.name) for record in records]
        if values and isinstance(values[0], np.ndarray):
            values = [value.tolist() for value in values]
        columns.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def batches_of(kind: str, records: Iterable[Any]) -> Iterator[pa.RecordBatch]:
    """Any number of records of one kind, some thousand a batch."""
    waiting: list[Any] = []
    for record in records:
        waiting.append(record)
        if len(waiting) == ROWS_PER_BATCH:
            yield batch_of(kind, waiting)
            waiting = []
    if waiting:
        yield batch_of(kind, waiting)


class RecordColumns(Generic[T]):
    """A growing list of records of one kind; only the newest few thousand are Python objects."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._batches: list[pa.RecordBatch] = []
        self._waiting: list[T] = []

    def append(self, record: T) -> None:
        """Take one record."""
        self._waiting.append(record)
        if len(self._waiting) == ROWS_PER_BATCH:
            self._batches.append(batch_of(self._kind, self._waiting))
            self._waiting = []

    def __len__(self) -> int:
        return len(self._batches) * ROWS_PER_BATCH + len(self._waiting)

    def records(self) -> Sequence[T]:
        """All records so far, in their order."""
        if not self._batches:
            return tuple(self._waiting)
        batches = chain(self._batches, batches_of(self._kind, self._waiting))
        table = pa.Table.from_batches(batches, schema=SCHEMAS[self._kind])
        return Selection(table, builder_of(self._kind))


def builder_of(kind: str) -> Callable[[dict[str, Any]], Any]:
    """What makes a record of a row's plain values."""
    return _BUILDERS[kind]


def _caption(row: dict[str, Any]) -> CaptionAnnotation:
    return CaptionAnnotation(**row)


def _question(row: dict[str, Any]) -> QuestionAnnotation:
    row["answers"] = tuple(row["answers"])
    return QuestionAnnotation(**row)


def _pair(row: dict[str, Any]) -> ImagePairAnnotation:
    return ImagePairAnnotation(**row)


def _objects(row: dict[str, Any]) -> ImageObjects:
    return ImageObjects(
        image_id=row["image_id"],
        height=row["height"],
        width=row["width"],
        boxes=np.array(row["boxes"], dtype=np.float32).reshape(-1, 4),
        class_names=tuple(row["class_names"]),
        attributes=tuple(map(tuple, row["attributes"])),
        is_crowd=np.array(row["is_crowd"], dtype=np.bool_),
        split=row["split"],
        source=row["source"],
    )


def _tags(row: dict[str, Any]) -> ImageTags:
    return ImageTags(
        image_id=row["image_id"],
        tags=tuple(row["tags"]),
        attributes=tuple(map(tuple, row["attributes"])),
        language=row["language"],
    )


_BUILDERS: Mapping[str, Callable[[dict[str, Any]], Any]] = {
    "captions": _caption,
    "questions": _question,
    "pairs": _pair,
    "objects": _objects,
    "tags": _tags,
}
