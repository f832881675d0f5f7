"""Whether a child still deserves waiting for: asked to stop, over its time, silent, or stuck.

All by the monotonic clock: a wall clock that is set meanwhile changes nothing.
"""

import threading
import time
from collections.abc import Callable

from flows.limits import StageLimits
from flows.process import Cut
from flows.progress import ProgressReport, clock

START_SECONDS = 60.0
"""A child has at least that long until its first sign of life: torchrun imports torch before."""
OWN_PAUSE_SECONDS = 5.0
"""Longer between two looks: this process itself stood still, and the child with it perhaps."""


class Vigil:
    """Watches one try at a step; hears of the child from the thread that reads its output.

    Args:
        limits: of the stage.
        stop: set when the run should end.
        now: the clock.
    """

    def __init__(
        self,
        limits: StageLimits,
        stop: threading.Event,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._stop = stop
        self._now = now
        self._looked_at = now()
        self._progress_at = now()
        self._began = now()
        self._has_begun = False
        self._signs: dict[int, float] = {}
        self._gone: set[int] = set()
        self.why = ""

    def begin(self) -> None:
        """The child starts only now."""
        self._looked_at = self._now()
        self._forgive(self._looked_at)

    def heard(self, rank: int) -> None:
        """A sign of life of one of the step's processes."""
        if rank not in self._gone:  # its thread may beat on for a moment after the last word
            self._signs[rank] = self._now()
        self._has_begun = True

    def left(self, rank: int) -> None:
        """A process says that it is about to end."""
        self._gone.add(rank)
        self._signs.pop(rank, None)

    def progressed(self) -> None:
        """The work went on."""
        self._progress_at = self._now()

    def verdict(self, seconds: float) -> Cut:
        """Whether to end the child, which is that old, now; `why` then holds a line about it."""
        now = self._now()
        if now - self._looked_at > OWN_PAUSE_SECONDS:
            self._forgive(now)
        self._looked_at = now
        limits = self._limits
        if self._stop.is_set():
            return "stopped"
        if limits.seconds is not None and seconds > limits.seconds:
            return "time limit"
        start = 0.0 if self._has_begun else START_SECONDS
        since = now if self._has_begun else self._began
        silent = now - min(list(self._signs.values()), default=since)
        if limits.heartbeat_seconds is not None and silent > limits.heartbeat_seconds + start:
            self.why = f"hung: no sign of life for {clock(silent)}"
            return "hung"
        idle = now - self._progress_at
        if limits.silence_seconds is not None and idle > limits.silence_seconds:
            self.why = f"hung: no progress for {clock(idle)}"
            return "hung"
        return ""

    def _forgive(self, now: float) -> None:
        self._began = now
        self._progress_at = now
        for rank in list(self._signs):
            self._signs[rank] = now


class Furthest:
    """How far a step ever came, by what it counts."""

    def __init__(self) -> None:
        self._done_by_unit: dict[str, int] = {}
        self._is_further = False

    def at(self, report: ProgressReport) -> None:
        """Take note of where the step is."""
        if report.done > self._done_by_unit.get(report.unit, -1):
            self._done_by_unit[report.unit] = report.done
            self._is_further = True

    def take(self) -> bool:
        """Whether it came further since the last time this was asked."""
        was, self._is_further = self._is_further, False
        return was
