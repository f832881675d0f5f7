"""Processes of one step that share numbered pieces of work.

Alone, a process does one piece after the other. Under torchrun each takes the next free number
from the store that all of them reach, and hands in what came of it.
"""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from flows.ranks import rank, world

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

LOOK_SECONDS = 0.5
"""Between two looks at what the others have handed in."""


class Team(Protocol):
    """How a process and its fellows share work."""

    def claims(self, num_pieces: int) -> Iterator[int]:
        """Numbers that this process does, one by one; nobody else does them."""
        ...

    def count(self, more: int) -> int:
        """Add to a count that all share; what it is now."""
        ...

    def hand_in(self, report: str) -> None:
        """Give what came of a piece to whoever collects."""
        ...

    def collect(self, num_pieces: int, while_waiting: Callable[[], None]) -> Iterator[str]:
        """What came of all pieces, as it comes in; waits for the others."""
        ...

    def wait_for_writers(self, number: int) -> None:
        """Say that this process is through; number 0 waits until so many have said it."""
        ...


def team() -> Team:
    """This process's team; it meets the others here."""
    return Fellows() if world() > 1 else Alone()


class Alone:
    """A process without others."""

    def __init__(self) -> None:
        self._count = 0
        self._reports: list[str] = []

    def claims(self, num_pieces: int) -> Iterator[int]:
        """All numbers."""
        yield from range(num_pieces)

    def count(self, more: int) -> int:
        """The count of this process."""
        self._count += more
        return self._count

    def hand_in(self, report: str) -> None:
        """Keep it."""
        self._reports.append(report)

    def collect(self, num_pieces: int, while_waiting: Callable[[], None]) -> Iterator[str]:
        """What was handed in."""
        yield from self._reports

    def wait_for_writers(self, number: int) -> None:
        """There is nobody to wait for."""


class Fellows:
    """Processes that torchrun started; one that is lost ends them all, by torchrun's agent."""

    def __init__(self) -> None:
        from torch.distributed.distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        store, _, _ = next(iter(rendezvous("env://")))
        self._store: Store = PrefixStore("oscar-flow/pieces", store)

    def claims(self, num_pieces: int) -> Iterator[int]:
        """The next number that nobody has taken, until there is none."""
        while (number := self._store.add("taken", 1) - 1) < num_pieces:
            yield number

    def count(self, more: int) -> int:
        """The count of all."""
        return int(self._store.add("count", more))

    def hand_in(self, report: str) -> None:
        """Put it into the store under the next number."""
        place = self._store.add("handed in", 1) - 1
        self._store.set(f"report {place}", report)

    def collect(self, num_pieces: int, while_waiting: Callable[[], None]) -> Iterator[str]:
        """Reports in the order they were handed in; sleeps between looks, so that signals work."""
        for place in range(num_pieces):
            while not self._store.check([f"report {place}"]):
                while_waiting()
                time.sleep(LOOK_SECONDS)
            yield self._store.get(f"report {place}").decode("utf-8")

    def wait_for_writers(self, number: int) -> None:
        """Number 0 may hold the store, so it goes last."""
        self._store.add("through", 1)
        while rank() == 0 and self._store.add("through", 0) < number:
            time.sleep(LOOK_SECONDS)
