"""A tuple of known length whose members are made when somebody looks at them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar, overload

T = TypeVar("T")


class LaterTuple(Sequence[T]):
    """Behaves as the tuple it stands for, and equals it; pickled and copied, it is that tuple.

    Reading features by the thousand, nobody looks at the names beside them, and to make fifty
    strings takes as long as to copy the features.
    """

    __slots__ = ("_made", "_make", "_num")

    def __init__(self, num: int, make: Callable[[], Iterable[T]]) -> None:
        """Promise `num` members, which `make` gives."""
        self._num = num
        self._make = make
        self._made: tuple[T, ...] | None = None

    def __len__(self) -> int:
        return self._num

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[T, ...]: ...
    def __getitem__(self, place: int | slice) -> T | tuple[T, ...]:
        return self._whole()[place]

    def __iter__(self) -> Iterator[T]:
        return iter(self._whole())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, tuple | LaterTuple):
            return NotImplemented
        return len(self) == len(other) and self._whole() == tuple(other)

    def __hash__(self) -> int:
        return hash(self._whole())

    def __repr__(self) -> str:
        return repr(self._whole())

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (self._whole(),)

    def _whole(self) -> tuple[T, ...]:
        if self._made is None:
            self._made = tuple(self._make())
        return self._made
