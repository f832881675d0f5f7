"""What the end of a child means: which word for it, whether another try may help, with less memory?

Exit statuses as in `flows.errors.ExitStatus`.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flows import attempts
from flows.errors import CRASHED_BY_SIGNAL, KILLED, STOPPED, ExitStatus
from flows.process import Ended

_FINAL: Mapping[int, str] = {
    ExitStatus.USAGE: attempts.BAD_CONFIG,
    ExitStatus.BAD_INPUT: attempts.BAD_INPUT,
    ExitStatus.MISSING_INPUT: attempts.MISSING_INPUT,
    ExitStatus.BAD_CONFIG: attempts.BAD_CONFIG,
    ExitStatus.CRASHED: attempts.FAILED,
}
"""Trying again would end the same way."""

_PASSING: Mapping[int, str] = {
    ExitStatus.TRY_AGAIN: attempts.TEMPORARY,
    ExitStatus.LOST: attempts.LOST,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How a try went wrong.

    outcome:     one of the words of `flows.attempts`
    message:     one line: what happened, and where the log lies where that helps
    is_final:    another try would end the same way
    for_memory:  the next try should need less memory
    status:      exit status of the child, negative for a signal; None where it does not tell
    """

    outcome: str
    message: str
    status: int | None = None
    is_final: bool = False
    for_memory: bool = False


def outcome_of(status: int, said: str, *, was_memory_short: bool | None) -> str:
    """The word for the end of a child that nobody here ended.

    Args:
        status: exit status, negative for a signal.
        said: the child's own last line about an error, "" where it had no time for one.
        was_memory_short: whether the kernel killed for want of memory meanwhile; None: unknown.
    """
    if status in KILLED:
        is_memory = said or was_memory_short or was_memory_short is None
        return attempts.OUT_OF_MEMORY if is_memory else attempts.KILLED
    if status in STOPPED:
        return attempts.PREEMPTED
    if status in CRASHED_BY_SIGNAL:
        return attempts.CRASHED
    return _FINAL.get(status) or _PASSING.get(status) or attempts.CRASHED


def judge(
    ended: Ended, *, said: str, log: Path, was_memory_short: bool | None, times_killed: int
) -> Failure:
    """What happened to a child that did not end well by itself.

    Args:
        ended: how it ended.
        said: its own last line about an error, "" for none.
        log: of the step, named where it tells more.
        was_memory_short: as for `outcome_of`.
        times_killed: how often it was killed before at this step, nobody knows by whom.
    """
    outcome = outcome_of(ended.status, said, was_memory_short=was_memory_short)
    # Killed from outside: by hand, or by a guard of memory that is not the kernel's. Once more as
    # it was; if that is not enough, with less.
    for_memory = outcome == attempts.OUT_OF_MEMORY or (
        outcome == attempts.KILLED and times_killed > 0
    )
    return Failure(
        outcome=outcome,
        message=_message(ended, outcome, said, log),
        status=ended.status,
        is_final=ended.status in _FINAL,
        for_memory=for_memory,
    )


def num_memory_kills() -> int | None:
    """How many processes the kernel killed for want of memory so far; None where it does not say.

    Source: Linux, Documentation/admin-guide/cgroup-v2.rst (memory.events) and /proc/vmstat.
    """
    counts = []
    for path in (Path("/proc/vmstat"), _own_cgroup() / "memory.events"):
        with suppress(OSError):
            found = re.search(r"^oom_kill (\d+)$", path.read_text(), re.MULTILINE)
            if found is not None:
                counts.append(int(found[1]))
    return sum(counts) if counts else None


def _own_cgroup() -> Path:
    root = Path("/sys/fs/cgroup")
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::"):
                return root / line.removeprefix("0::").lstrip("/")
    return root


def _message(ended: Ended, outcome: str, said: str, log: Path) -> str:
    if said:
        return f"{said} (log: {log})" if ended.status == ExitStatus.CRASHED else said
    if outcome == attempts.OUT_OF_MEMORY:
        return f"killed, most likely for want of memory (log: {log})"
    if outcome == attempts.KILLED:
        return f"killed by somebody (log: {log})"
    if outcome == attempts.PREEMPTED:
        return "its process was told to end"
    if ended.status < 0:
        return f"ended by signal {-ended.status} (log: {log})"
    last = next((line for line in reversed(ended.last_lines) if line.strip()), "no output")
    return f"exit status {ended.status}: {last[:300]} (log: {log})"
