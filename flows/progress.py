"""How far a stage is: done of total, rate and time left, told to whoever listens."""

import time
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressReport:
    """State of a stage at one moment.

    total:        None where nobody knows
    rate:         units a second since this process began counting; None before the second unit
    seconds_left: None where total or rate is unknown
    note:         a few words of the stage's own, e.g. "loss 1.32"
    """

    done: int
    total: int | None
    unit: str
    rate: float | None
    seconds_left: float | None
    note: str = ""

    def __str__(self) -> str:
        """One line without the step's name."""
        parts = [f"{self.done}/{self.total}" if self.total is not None else f"{self.done}"]
        parts[0] += f" {self.unit}"
        if self.rate is not None:
            parts.append(_rate(self.rate, self.unit))
        if self.seconds_left is not None:
            parts.append(f"{clock(self.seconds_left)} left")
        if self.note:
            parts.append(self.note)
        return ", ".join(parts)


class Progress:
    """Counts work and tells a listener, at most once in `every_seconds`.

    A listener that is called more often than it can show would slow the work down.
    """

    def __init__(
        self,
        tell: Callable[[ProgressReport], None],
        *,
        every_seconds: float = 0.5,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell = tell
        self._every_seconds = every_seconds
        self._now = now
        self._told_at = float("-inf")
        self._counted: tuple[str, int, float] | None = None

    def track(
        self, records: Iterable[T], *, total: int | None = None, unit: str = "images"
    ) -> Iterator[T]:
        """Hand on the records one by one and count them.

        Args:
            records: what is worked on.
            total: how many there are, where `records` has no length.
            unit: plural of what is counted.
        """
        if total is None and isinstance(records, Sized):
            total = len(records)
        self.at(0, total, unit=unit)
        done = 0
        for done, record in enumerate(records, start=1):
            yield record
            self.at(done, total, unit=unit)
        self.at(done, total if total is not None else done, unit=unit, is_last=True)

    def at(
        self,
        done: int,
        total: int | None = None,
        *,
        unit: str = "steps",
        note: str = "",
        is_last: bool = False,
    ) -> None:
        """Say how far the work is. The first call of a unit starts its clock.

        Work that resumes calls first with what was done before: the rate counts from there.
        """
        now = self._now()
        if self._counted is None or self._counted[0] != unit or done < self._counted[1]:
            self._counted = (unit, done, now)
        elif now - self._told_at < self._every_seconds and not (is_last or done == total):
            return
        self._told_at = now
        _, first, since = self._counted
        rate = (done - first) / (now - since) if done > first and now > since else None
        left = (total - done) / rate if rate and total is not None else None
        self._tell(
            ProgressReport(
                done=done, total=total, unit=unit, rate=rate, seconds_left=left, note=note
            )
        )


def _ignore(report: ProgressReport) -> None:
    """Nobody listens."""


SILENT = Progress(_ignore)
"""For calls from code and tests that want no progress."""


def clock(seconds: float) -> str:
    """59 s, 12 min 05 s, 3 h 07 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _rate(rate: float, unit: str) -> str:
    if rate >= 1:
        return f"{rate:.1f} {unit}/s"
    return f"{rate * 60:.1f} {unit}/min"
