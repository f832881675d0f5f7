"""All processes that descend from one child, wherever they went: found, ended.

A process group is not enough: torchrun's workers and Ray's daemons open sessions of their own, and
a group whose leader is gone has no name that `waitpid` knows. So every child gets a word of its
own in its environment, which its descendants inherit, and they are found by it in /proc. Where
there is no /proc the group alone is ended.
"""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flows.guard import find

VARIABLE = "OSCAR_FLOW_FAMILY"
POLL_SECONDS = 0.05
_PROC = Path("/proc")
_GUARD = Path(__file__).with_name("guard.py")
_ROUNDS = 40
"""SIGKILLs to what forks while it is looked for."""


def new_mark() -> str:
    """A word that no other child has; its environment holds it as `VARIABLE`."""
    return uuid.uuid4().hex


def members(mark: str) -> list[int]:
    """Living processes whose environment carries the word."""
    return sorted(find(_entry(mark))) if mark and _PROC.is_dir() else []


def group_members(group: int) -> set[int]:
    """Living processes of a process group."""
    found = set()
    for pid in _processes():
        with suppress(OSError):
            fields = stat_fields(pid)
            if int(fields[2]) == group and fields[0] != "Z":
                found.add(pid)
    return found


def resident_bytes(mark: str) -> int:
    """Memory of all members; pages that they share count in each. 0 where nothing is known."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = 0
    for pid in members(mark):
        with suppress(OSError, IndexError, ValueError):
            total += int((_PROC / str(pid) / "statm").read_text().split()[1]) * page
    return total


def end_family(
    mark: str,
    *,
    group: int | None = None,
    grace_seconds: float,
    is_hard: bool = False,
) -> None:
    """SIGTERM to every member once, SIGKILL to those still there after the grace.

    Args:
        mark: the word, "" where there is none.
        group: process group whose members belong to it, too; its leader must not have been
            waited for yet, so that the number is still its own.
        grace_seconds: how long to wait in between.
        is_hard: SIGKILL at once, as a stopped process takes no other signal.
    """

    def alive() -> set[int]:
        return set(members(mark)) | (group_members(group) if group is not None else set())

    found = alive()
    if found and not is_hard:
        _signal(found, signal.SIGTERM)
        _signal(found, signal.SIGCONT)  # a stopped one sees its SIGTERM only then
        _wait(lambda: not alive(), grace_seconds)
    for _ in range(_ROUNDS):
        if group is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        found = alive()
        if not found:
            return
        _signal(found, signal.SIGKILL)
        time.sleep(POLL_SECONDS)


@contextmanager
def guarded(mark: str, grace_seconds: float) -> Iterator[None]:
    """End the family when this process dies within the block, however it dies.

    A process outside the family waits for the end of a pipe that this one holds open. The child
    watches for itself, too; but it may be stopped, or dead with its own children alive.
    """
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", str(_GUARD), os.fsdecode(_entry(mark)), str(grace_seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        guard.kill()
        guard.wait()
        if guard.stdin is not None:
            guard.stdin.close()


def stat_fields(pid: int) -> list[str]:
    """What /proc tells of a process behind its name, which may hold blanks and brackets.

    State, parent, group, ...

    Raises:
        OSError: It is gone.
    """
    text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    return text.rpartition(")")[2].split()


def _entry(mark: str) -> bytes:
    """As it stands in an environment."""
    return f"{VARIABLE}={mark}".encode()


def _processes() -> list[int]:
    return [int(name) for name in os.listdir(_PROC) if name.isdigit()] if _PROC.is_dir() else []


def _signal(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _wait(is_over: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not is_over() and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
