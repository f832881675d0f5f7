"""All processes that descend from one child, whatever group or session they moved to.

A child's environment carries a mark; its descendants inherit it. torchrun's workers and Ray's
processes live in sessions of their own, where a signal to the child's group does not reach them.
Only where /proc is (Linux); elsewhere a family is the child's group.
"""

import os
import signal
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

VARIABLE = "OSCAR_FLOW_FAMILY"


def new_mark() -> str:
    """A name for a child and all that descend from it; set it as `VARIABLE` when starting it."""
    return uuid4().hex


def members(mark: str) -> list[int]:
    """Process ids that carry the mark and live; zombies have no environment any more."""
    wanted = f"{VARIABLE}={mark}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # gone meanwhile, or another user's
            if wanted in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return sorted(set(found) - {os.getpid()})


def end_family(mark: str) -> int:
    """SIGKILL to every member, until none is left or none dies any more.

    Returns:
        How many were killed.
    """
    killed: set[int] = set()
    while remaining := set(members(mark)) - killed:  # one may have started another meanwhile
        for pid in remaining:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed |= remaining
    return len(killed)
