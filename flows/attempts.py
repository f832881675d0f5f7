"""How often each step was tried, and how each try ended: `<run>/attempts/<step>-<fp12>.jsonl`.

One JSON object a line, added when a try is over; what a parent that was killed could not write,
the next start of the run adds as "parent gone". For people and for the next try (how far batches
were halved already); what is done is decided by done-marks alone.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

DONE = "done"
OUT_OF_MEMORY = "out of memory"
KILLED = "killed"
CRASHED = "crashed"
HUNG = "hung"
PREEMPTED = "preempted"
LOST = "lost"
TEMPORARY = "temporary"
BAD_INPUT = "bad input"
BAD_CONFIG = "bad configuration"
MISSING_INPUT = "missing input"
FAILED = "failed"
STOPPED = "stopped"
TIME_LIMIT = "time limit"
PARENT_GONE = "parent gone"


class Folder(Protocol):
    """A run's folder: `flows.run_folder.RunFolder`, which itself writes attempts down."""

    @property
    def path(self) -> Path:
        """Where the run lies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at a step.

    number:   1 for the first try of this fingerprint, whichever start of the run made it
    began:    by the wall clock, for people
    seconds:  it took, by a clock that nobody sets
    outcome:  one of the words above
    status:   exit status of the child, negative for a signal; None where nobody saw it
    message:  why it did not end well, one line
    halvings: how often its batches were halved for want of memory
    resumed:  whether earlier tries had left work to go on from
    """

    step: str
    fingerprint: str
    number: int
    began: str
    seconds: float
    outcome: str
    status: int | None = None
    message: str = ""
    halvings: int = 0
    resumed: bool = False


def add_attempt(run: Folder, attempt: Attempt) -> None:
    """Write down a try that is over; a disk that refuses it is the step's own trouble."""
    path = _path(run, attempt.step, attempt.fingerprint)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(attempt), ensure_ascii=False) + "\n")


def attempts_at(run: Folder, step: str, fingerprint: str) -> list[Attempt]:
    """The tries at one step with that fingerprint, in order."""
    return list(_read(_path(run, step, fingerprint)))


def read_attempts(run: Folder) -> list[Attempt]:
    """All tries at all steps, oldest first."""
    found = [
        attempt for path in sorted(run.path.glob("attempts/*.jsonl")) for attempt in _read(path)
    ]
    return sorted(found, key=lambda attempt: attempt.began)


def _path(run: Folder, step: str, fingerprint: str) -> Path:
    return run.path / "attempts" / f"{step}-{fingerprint[:12]}.jsonl"


def _read(path: Path) -> Iterator[Attempt]:
    """Whole lines only: a full disk may have cut one."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        with suppress(ValueError, TypeError):
            yield Attempt(**json.loads(line))
