"""Writes checkpoints while the training goes on."""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from oscar_core.training.checkpoints import Place, Snapshot, take_snapshot, write_snapshot
from oscar_core.training.learner import Learner, gathered

_LOG = logging.getLogger(__name__)


class CheckpointWriter:
    """One checkpoint at a time, written by a thread from a copy in memory.

    What went wrong is raised at the next `check`, `save` or `finish`. Leaving the `with` block
    waits for what is being written; after an error of the training itself, an error of the
    writing is told in the log.
    """

    def __init__(
        self, folder: Path, *, keep_last: int, writes: bool, before: Callable[[], None]
    ) -> None:
        """Nothing is written before `save`.

        Args:
            folder: Of the checkpoints.
            keep_last: How many stay.
            writes: Whether this process writes; others only take part in the gathering.
            before: Called in the thread before a checkpoint appears.
        """
        self._folder = folder
        self._keep_last = keep_last
        self._writes = writes
        self._before = before
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._room: Snapshot | None = None

    def save(self, learner: Learner, at: Place) -> None:
        """Copy the learner and have it written; all processes call it alike.

        Waits for an earlier one that is not done yet.

        Raises:
            OSError: The earlier one could not be written.
        """
        self.finish()
        if not self._writes:
            gathered(learner)
            return
        self._room = take_snapshot(learner, at, self._room)
        self._thread = threading.Thread(
            target=self._write, args=(self._room,), name=f"checkpoint-{at.step}"
        )
        self._thread.start()

    def check(self) -> None:
        """Raise what went wrong, if anything did; does not wait.

        Raises:
            OSError: A checkpoint could not be written.
        """
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def finish(self) -> None:
        """Wait until nothing is being written. Raises as `check`."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.finish()
            return
        with suppress(Exception):
            self.finish()

    def _write(self, snapshot: Snapshot) -> None:
        try:
            self._before()
            write_snapshot(self._folder, snapshot, self._keep_last)
        except BaseException as error:  # raised again by `check`, in the training's thread
            _LOG.warning("checkpoint of update %d: not written (%s)", snapshot.at.step, error)
            self._error = error
