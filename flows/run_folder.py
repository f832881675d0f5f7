"""The folder of one run: its lock, its state of each step, its logs.

runs/demo/
config.yaml                    resolved configuration
<step>-<fingerprint12>/        what a step made, DONE.json last
state/<step>.json              what is known of its latest attempt, for `status`
logs/<step>-<fingerprint12>.jsonl
attempts/<step>-<fingerprint12>.jsonl   how each try ended
steps.json                     step -> its folder, as the latest start saw them
report.html, metrics.json      copies of the report step's
"""

import fcntl
import json
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from flows.attempts import PARENT_GONE, Attempt, add_attempt, attempts_at
from flows.errors import RunLockedError
from flows.family import end_family
from flows.process import GRACE_SECONDS, boot_id, start_ticks
from storage.artifacts import atomic_write_json

RUNNING = "running"
RETRYING = "retrying"
DONE = "done"
FAILED = "failed"
STOPPED = "stopped"
_HOLDER = re.compile(r"process (\d+) \(\S* ?(.*), since ")
"""What `locked` writes into its file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepState:
    """What is known of the latest attempt at a step.

    state:           running, retrying (soon, nothing works now), done, failed or stopped
    pid, start_ticks, boot_id, host: the child; together they tell whether it still lives
    family:          word by which all that descends from the child is found (`flows.family`)
    started_at:      of this start's first attempt; began: of the latest
    seconds:         spent on this fingerprint by all attempts so far; seconds_before: by those
                     that were over when the latest began
    progress:        the latest progress line
    message:         why it failed
    """

    step: str
    folder: str
    fingerprint: str
    state: str
    attempt: int
    started_at: str
    updated_at: str
    seconds: float
    pid: int = 0
    start_ticks: int | None = None
    boot_id: str = ""
    host: str = ""
    progress: str = ""
    message: str = ""
    log: str = ""
    family: str = ""
    began: str = ""
    seconds_before: float = 0.0
    halvings: int = 0
    resumed: bool = False

    def as_attempt(self) -> Attempt:
        """The latest attempt, as far as the state tells."""
        return Attempt(
            step=self.step,
            fingerprint=self.fingerprint,
            number=self.attempt,
            began=self.began or self.started_at,
            seconds=round(max(0.0, self.seconds - self.seconds_before), 2),
            outcome=PARENT_GONE,
            halvings=self.halvings,
            resumed=self.resumed,
        )

    @property
    def is_alive(self) -> bool:
        """Whether the child of this attempt still works on this machine."""
        return (
            self.state == RUNNING
            and self.host == socket.gethostname()
            and self.boot_id == boot_id()
            and self.start_ticks is not None
            and start_ticks(self.pid) == self.start_ticks
        )


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths inside one run."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def steps(self) -> Path:
        """Which folder is which step's, for commands that need no more of the configuration."""
        return self.path / "steps.json"

    @property
    def digests(self) -> Path:
        """Content hashes of outside files, so that an unchanged file is read once."""
        return self.path / "state" / "outside.json"

    def step_folder(self, step: str, fingerprint: str) -> Path:
        """Where a step of that fingerprint keeps its files."""
        return self.path / f"{step}-{fingerprint[:12]}"

    def log(self, step: str, fingerprint: str) -> Path:
        """Log of a step, one JSON object a line."""
        return self.path / "logs" / f"{step}-{fingerprint[:12]}.jsonl"

    def request(self, step: str) -> Path:
        """What the child of a step is asked to do."""
        return self.path / "state" / f"{step}.request.json"

    def read_state(self, step: str) -> StepState | None:
        """The latest attempt at a step; None when there was none (or its record is damaged)."""
        with suppress(OSError, ValueError, TypeError):
            return StepState(**json.loads(self._state(step).read_text(encoding="utf-8")))
        return None

    def states(self) -> list[StepState]:
        """The latest attempts at all steps, oldest first."""
        names = sorted(
            path.name.removesuffix(".json")
            for path in self.path.glob("state/*.json")
            if not path.name.endswith(".request.json") and path != self.digests
        )
        states = [state for state in map(self.read_state, names) if state is not None]
        return sorted(states, key=lambda state: state.started_at)

    def write_state(self, state: StepState) -> None:
        """Keep what is known of a step."""
        atomic_write_json(self._state(state.step), asdict(replace(state, updated_at=utc_now())))

    def _state(self, step: str) -> Path:
        return self.path / "state" / f"{step}.json"


@contextmanager
def locked(run: RunFolder) -> Iterator[None]:
    """Keep the run folder to this process; the kernel lets go when the process dies.

    Children of an earlier process that was killed are ended first: they may be writing still.

    Raises:
        RunLockedError: A living process has it.
    """
    (run.path / "state").mkdir(parents=True, exist_ok=True)
    (run.path / "logs").mkdir(exist_ok=True)
    with open(run.path / ".lock", "a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            stream.seek(0)
            holder = stream.read().strip() or "another process"
            raise RunLockedError(
                f"{run.path}: being written by {holder}; wait for it, stop it, or choose another "
                "folder with --out"
            ) from None
        stream.seek(0)
        stream.truncate()
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200]
        stream.write(f"process {os.getpid()} ({command}, since {utc_now()})")
        stream.flush()
        end_orphans(run)
        try:
            yield
        finally:
            stream.seek(0)
            stream.truncate()


def holder_of(run: RunFolder) -> str:
    """Who works on a run on this machine, in words; "" for nobody.

    Looks without taking the lock: a start at that moment would find it taken.
    """
    with suppress(OSError):
        written = (run.path / ".lock").read_text(encoding="utf-8").strip()
        found = _HOLDER.match(written)
        if found is not None:
            command = Path("/proc", found[1], "cmdline").read_bytes().replace(b"\0", b" ")
            # another process may have got the number of one that was killed
            return written if os.fsencode(found[2]) in command else ""
    return ""


def end_orphans(run: RunFolder) -> None:
    """End what descends from children of a process that is gone, and mark their steps as stopped.

    The child itself may be dead with processes of its own alive, or stopped so that it noticed
    nothing.
    """
    for state in run.states():
        message = "the process that ran it is gone"
        if state.state == RETRYING:
            run.write_state(replace(state, state=STOPPED, message=message))
        if state.state != RUNNING:
            continue
        if state.host == socket.gethostname() and state.boot_id == boot_id():
            end_family(
                state.family,
                group=state.pid if state.is_alive else None,
                grace_seconds=GRACE_SECONDS,
            )
        known = {each.number for each in attempts_at(run, state.step, state.fingerprint)}
        if state.attempt not in known:  # it may have written that, and died before the state
            add_attempt(run, replace(state.as_attempt(), message=message))
        run.write_state(replace(state, state=STOPPED, message=message))


def utc_now() -> str:
    """This moment, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
