"""Texts by number and numbers by text, for hundreds of thousands of image ids in little memory."""

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import pyarrow as pa

from storage.errors import RecordError

_BATCH = 65_536


class KeyTable(Sequence[str]):
    """Distinct texts, numbered from 0 in the order they were given.

    Beside the texts, which may lie in a mapped file, a key costs 12 bytes; a dictionary of Python
    texts takes fifteen times that.
    """

    def __init__(self, keys: "pa.Array | pa.ChunkedArray") -> None:
        """Index the texts.

        Args:
            keys: column of strings.

        Raises:
            RecordError: One of them occurs twice; names it.
        """
        self.column = keys
        hashes = np.fromiter(map(hash, self), dtype=np.int64, count=len(keys))
        self._order = np.argsort(hashes, kind="stable").astype(np.int32)
        self._hashes = hashes[self._order]
        self._check_distinct()

    def number(self, key: object) -> int | None:
        """Number of a text; None if it is not here."""
        wanted = hash(key)
        at = int(np.searchsorted(self._hashes, wanted))
        while at < len(self._hashes) and self._hashes[at] == wanted:
            if self[int(self._order[at])] == key:
                return int(self._order[at])
            at += 1
        return None

    def __contains__(self, key: object) -> bool:
        return self.number(key) is not None

    def __len__(self) -> int:
        return len(self.column)

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: int | slice) -> str | list[str]:
        if isinstance(number, slice):
            return [self[at] for at in range(*number.indices(len(self)))]
        found: str = self.column[number].as_py()
        return found

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self.column), _BATCH):
            yield from self.column.slice(start, _BATCH).to_pylist()

    def __reduce__(self) -> tuple[Any, ...]:
        return KeyTable, (self.column,)  # another process hashes texts differently

    def _check_distinct(self) -> None:
        for at in np.flatnonzero(self._hashes[1:] == self._hashes[:-1]):
            run = [int(self._order[at + 1])]
            while at >= 0 and self._hashes[at] == self._hashes[at + 1]:
                run.append(int(self._order[at]))
                at -= 1
            texts = [self[number] for number in run]
            if texts[0] in texts[1:]:
                raise RecordError(f"{texts[0]!r} twice")
