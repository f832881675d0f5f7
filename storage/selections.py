"""Records of a table by number, each put together when it is asked for.

A selection is a table, most often a mapped file, and the numbers of its rows: four bytes a record.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from storage.mapped import MappedTable

T = TypeVar("T")
_AT_ONCE = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """A column of text as numbers.

    values: each text once, in the order of its first record
    codes:  (records,) int32   place in `values`
    """

    values: tuple[str, ...]
    codes: NDArray[np.int32]


class Selection(Sequence[T]):
    """Some rows of a table as records; equal to any sequence of equal records."""

    def __init__(
        self,
        source: "MappedTable | pa.Table",
        build: Callable[[dict[str, Any]], T],
        rows: NDArray[np.int32] | None = None,
    ) -> None:
        """Choose rows.

        Args:
            source: the table.
            build: a row's plain values by column -> its record.
            rows: (n,) numbers of rows in the order wanted; None: all.
        """
        self._source = source
        self._build = build
        self.rows = rows

    @property
    def table(self) -> pa.Table:
        """All rows of the table, chosen or not."""
        return self._source.table if isinstance(self._source, MappedTable) else self._source

    def __len__(self) -> int:
        return int(self.table.num_rows) if self.rows is None else len(self.rows)

    @overload
    def __getitem__(self, number: int) -> T: ...
    @overload
    def __getitem__(self, number: slice) -> "Selection[T]": ...
    def __getitem__(self, number: int | slice) -> "T | Selection[T]":
        if isinstance(number, slice):
            rows = np.arange(len(self), dtype=np.int32) if self.rows is None else self.rows
            return Selection(self._source, self._build, rows[number])
        place = range(len(self))[number]
        row = place if self.rows is None else int(self.rows[place])
        table = self.table
        return self._build({name: table.column(name)[row].as_py() for name in table.column_names})

    def __iter__(self) -> Iterator[T]:
        table = self.table
        for start in range(0, len(self), _AT_ONCE):
            if self.rows is None:
                part = table.slice(start, _AT_ONCE)
            else:
                part = table.take(pa.array(self.rows[start : start + _AT_ONCE]))
            yield from map(self._build, part.to_pylist())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # equal to lists, which have none

    def __repr__(self) -> str:
        return f"<{len(self)} records of {self.table.num_rows}>"

    def where(self, mask: "pa.ChunkedArray") -> "Selection[T]":
        """The chosen rows of which also a mask over all rows of the table says so."""
        wanted = np.flatnonzero(mask.to_numpy(zero_copy_only=False)).astype(np.int32)
        if self.rows is not None:
            wanted = self.rows[np.isin(self.rows, wanted)]
        return Selection(self._source, self._build, wanted)


def select(
    records: Sequence[T],
    *,
    image_columns: Sequence[str] = ("image_id",),
    known: "pa.Array | None" = None,
    **wanted: str,
) -> Sequence[T]:
    """Records whose columns hold certain texts, and whose images are among the known ones.

    Args:
        records: a `Selection`, whose table is asked as a whole, or any other records.
        image_columns: which columns name images.
        known: ids of the known images; None: every image will do.
        wanted: column -> text.
    """
    if not isinstance(records, Selection):
        ids = None if known is None else frozenset(known.to_pylist())
        return [
            each
            for each in records
            if all(getattr(each, name) == text for name, text in wanted.items())
            and (ids is None or all(getattr(each, name) in ids for name in image_columns))
        ]
    table = records.table
    masks = [pc.equal(table.column(name), text) for name, text in wanted.items()]
    if known is not None:
        masks += [pc.is_in(table.column(name), value_set=known) for name in image_columns]
    if not masks:
        return records
    every = masks[0]
    for mask in masks[1:]:
        every = pc.and_(every, mask)
    return records.where(every)


def distinct(records: Sequence[Any], column: str, **wanted: str) -> set[str]:
    """The texts of a column, over records whose other columns hold certain texts."""
    chosen = select(records, **wanted)
    if not isinstance(chosen, Selection):
        return {str(getattr(each, column)) for each in chosen}
    texts = chosen.table.column(column)
    if chosen.rows is not None:
        texts = texts.filter(_mask(chosen))
    return set(pc.unique(texts).to_pylist())


def coded(records: Sequence[Any], column: str) -> Coded:
    """A column of text as numbers, without a Python text a record."""
    if not isinstance(records, Selection):
        return _numbered(str(getattr(each, column)) for each in records)
    texts = records.table.column(column)
    if not len(records):
        return Coded(values=(), codes=np.zeros(0, np.int32))
    values = pc.unique(texts)
    # unifying the dictionaries of all chunks would hash each text once a chunk
    codes = pc.index_in(texts, value_set=values).to_numpy().astype(np.int32, copy=False)
    if records.rows is not None:
        codes = codes[records.rows]
    used, first = np.unique(codes, return_index=True)
    used = used[np.argsort(first)]
    place = np.zeros(int(codes.max()) + 1, np.int32)
    place[used] = np.arange(len(used), dtype=np.int32)
    texts_used = tuple(values.take(pa.array(used)).to_pylist())
    pa.default_memory_pool().release_unused()
    return Coded(values=texts_used, codes=place[codes])


def values(records: Sequence[Any], number: int, columns: Sequence[str]) -> list[Any]:
    """Some plain values of one record, by column; cheaper than the record."""
    if not isinstance(records, Selection):
        record = records[number]
        return [getattr(record, column) for column in columns]
    row = number if records.rows is None else int(records.rows[number])
    table = records.table
    return [table.column(column)[row].as_py() for column in columns]


def lengths(records: Sequence[Any], column: str) -> NDArray[np.int32]:
    """How many values each record has in a column of lists."""
    if not isinstance(records, Selection):
        return np.array([len(getattr(each, column)) for each in records], dtype=np.int32)
    counted = pc.list_value_length(records.table.column(column)).to_numpy()
    found: NDArray[np.int32] = np.asarray(counted, dtype=np.int32)
    return found if records.rows is None else np.asarray(found[records.rows])


def _mask(chosen: Selection[Any]) -> pa.Array:
    mask = np.zeros(chosen.table.num_rows, dtype=np.bool_)
    mask[chosen.rows] = True
    return pa.array(mask)


def _numbered(texts: Iterable[str]) -> Coded:
    places: dict[str, int] = {}
    codes = [places.setdefault(text, len(places)) for text in texts]
    return Coded(values=tuple(places), codes=np.array(codes, dtype=np.int32))
