"""What the next steps need, made ready in threads while this one computes."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Values by step number, some steps ahead; the same values as without threads."""

    def __init__(self, make: Callable[[int], T], num_steps: int, lookahead: int) -> None:
        """Nothing is made yet.

        Args:
            make: The value of a step; depends on the step alone.
            num_steps: Steps there are.
            lookahead: How many later steps are made ready, each in a thread of its own; 0 for none.
        """
        self._make, self._num_steps, self._lookahead = make, num_steps, lookahead
        self._waiting: dict[int, Future[T]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def at(self, step: int) -> T:
        """The value of a step; those of the following ones are begun."""
        if self._lookahead == 0:
            return self._make(step)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._lookahead, thread_name_prefix="ahead")
        for later in range(step, min(step + self._lookahead + 1, self._num_steps)):
            if later not in self._waiting:
                self._waiting[later] = self._pool.submit(self._make, later)
        return self._waiting.pop(step).result()

    def close(self) -> None:
        """Drop what is not wanted any more."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._pool = None
        self._waiting.clear()
