"""What the run folder knows of a step while it works: its state, its log, its tries."""

import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from flows import attempts
from flows.attempts import Attempt, add_attempt, attempts_at
from flows.child import MARK
from flows.identity import IDENTITY, PreparedStep
from flows.process import boot_id, start_ticks
from flows.progress import ProgressReport
from flows.run_folder import RUNNING, RunFolder, StepState, utc_now

SAVED_EVERY_SECONDS = 5.0


class StepRecord:
    """Keeps state, log and tries of one step on disk; nothing it cannot write stops the step.

    Args:
        prepared: the step.
        run: the run it belongs to.
        on_log: told level and text of every line of the log.
    """

    def __init__(
        self, prepared: PreparedStep, run: RunFolder, on_log: Callable[[str, str], None]
    ) -> None:
        self._prepared = prepared
        self._run = run
        self._on_log = on_log
        self._name = prepared.step.name
        self.log = run.log(self._name, prepared.fingerprint)
        before = run.read_state(self._name)
        same = before is not None and before.fingerprint == prepared.fingerprint
        self.seconds_before = before.seconds if before is not None and same else 0.0
        """Spent on this fingerprint by tries that are over."""
        self._started_at = utc_now()
        self._state: StepState | None = None
        self._saved_at = float("-inf")
        self._resumed = False
        self._is_open = False
        self.progress = ""
        self.error = ""
        """The child's own last line about an error."""

    def next_number(self) -> int:
        """Number of the next try, whichever start of the run made the others."""
        return 1 + max((each.number for each in self._tries()), default=0)

    def halvings(self) -> int:
        """How far earlier starts of the run had to halve the batches."""
        last = next(reversed(self._tries()), None)
        if last is None:
            return 0
        return last.halvings + (last.outcome == attempts.OUT_OF_MEMORY)

    def begin(self, pid: int, *, number: int, halvings: int, family: str) -> None:
        """A child works."""
        self._saved_at = float("-inf")
        self._is_open = True
        self._state = StepState(
            step=self._name,
            folder=self._prepared.folder.name,
            fingerprint=self._prepared.fingerprint,
            state=RUNNING,
            attempt=number,
            started_at=self._started_at,
            updated_at=utc_now(),
            seconds=self.seconds_before,
            pid=pid,
            start_ticks=start_ticks(pid),
            boot_id=boot_id(),
            host=socket.gethostname(),
            log=str(self.log.relative_to(self._run.path)),
            family=family,
            began=utc_now(),
            seconds_before=self.seconds_before,
            halvings=halvings,
            resumed=self._resumed,
        )
        self._save(self._state)

    def look_for_earlier_work(self) -> None:
        """Take note whether the step's folder holds work to go on from."""
        with suppress(OSError):
            names = set(os.listdir(self._prepared.folder)) - {IDENTITY}
            self._resumed = any(not name.startswith(".") for name in names)

    def beat(self, seconds: float) -> None:
        """Keep the state file fresh for `status`; `seconds` since the child's start."""
        if seconds - self._saved_at >= SAVED_EVERY_SECONDS:
            self._saved_at = seconds
            self._update(RUNNING, "", self.seconds_before + seconds)

    def end_try(self, outcome: str, status: int | None, message: str, seconds: float) -> None:
        """A try is over, if one had begun."""
        if self._state is None or not self._is_open:
            return
        self._is_open = False
        self.seconds_before += seconds
        attempt = replace(
            self._state.as_attempt(),
            seconds=round(seconds, 2),
            outcome=outcome,
            status=status,
            message=message,
        )
        add_attempt(self._run, attempt)

    def finish(self, state: str, message: str) -> None:
        """No child works on the step, for now or for good."""
        self._update(state, message, self.seconds_before)

    def read(self, message: dict[str, Any]) -> None:
        """A message of the child that belongs to the log."""
        if message[MARK] == "error":
            self.error = str(message.get("message", ""))
            self.write_log("ERROR", self.error)
        else:
            level, text = str(message.get("level", "INFO")), str(message.get("message", ""))
            self.write_log(level, text, str(message.get("logger", "")))

    def show(self, report: ProgressReport) -> None:
        """How far the child is."""
        self.progress = str(report)

    def write_log(self, level: str, message: str, logger: str = "") -> None:
        """One line of the log, told to whoever listens."""
        entry = {"time": utc_now(), "level": level, "logger": logger, "message": message}
        with suppress(OSError):  # a full disk must not stop the reading of the child's output
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(entry, ensure_ascii=False) + "\n")
        self._on_log(level, message)

    def _tries(self) -> list[Attempt]:
        return attempts_at(self._run, self._name, self._prepared.fingerprint)

    def _update(self, state: str, message: str, seconds: float) -> None:
        if self._state is not None:
            self._save(
                replace(
                    self._state,
                    state=state,
                    message=message,
                    seconds=round(seconds, 2),
                    progress=self.progress,
                )
            )

    def _save(self, state: StepState) -> None:
        with suppress(OSError):  # what the stage itself cannot write, it says
            self._run.write_state(state)
