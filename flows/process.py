"""One child process in its own process group: started, listened to, limited, ended.

Prefect's own time limits leave the child alive (specs/orchestration.md section 4), so the limit
is kept here, by polling. The child's standard input is a pipe nobody writes to: when this process
dies, however it dies, the child reads end-of-file and ends itself.
"""

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

POLL_SECONDS = 0.05
GRACE_SECONDS = 6.0
"""Between SIGTERM and SIGKILL; a stage writes nothing it could not do without in that time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a child ended.

    status:     exit status, negative for a signal
    at_limit:   it was killed because it worked longer than its limit
    is_stopped: it was killed because the run was asked to stop
    last_lines: the end of what it printed
    """

    status: int
    at_limit: bool
    is_stopped: bool
    seconds: float
    last_lines: tuple[str, ...]


def run_child(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    stop: threading.Event,
    limit_seconds: float | None = None,
    grace_seconds: float = GRACE_SECONDS,
    on_start: Callable[[int], None],
    on_line: Callable[[str], None],
    on_poll: Callable[[float], None],
) -> Ended:
    """Run a program to its end; whatever happens here, its whole process group is gone after.

    Args:
        arguments: program and arguments.
        environment: the child's whole environment.
        stop: set by another thread to end the child early.
        limit_seconds: kill the group when it is older; None for no limit.
        grace_seconds: time between SIGTERM and SIGKILL.
        on_start: told the child's process id.
        on_line: told every line of its output, from a reader thread.
        on_poll: told the seconds since the start, about twenty times a second.
    """
    started = time.monotonic()
    child = subprocess.Popen(
        list(arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        text=True,
        errors="replace",
        bufsize=1,
        start_new_session=True,
    )
    last_lines: deque[str] = deque(maxlen=20)
    at_limit = is_stopped = False
    reader = threading.Thread(target=_read, args=(child.stdout, last_lines, on_line), daemon=True)
    try:
        on_start(child.pid)
        reader.start()
        while child.poll() is None:
            seconds = time.monotonic() - started
            on_poll(seconds)
            if stop.is_set():
                is_stopped = True
                break
            if limit_seconds is not None and seconds > limit_seconds:
                at_limit = True
                break
            time.sleep(POLL_SECONDS)
    finally:
        end_group(child.pid, grace_seconds=grace_seconds, wait=lambda: child.poll() is None)
        child.wait()
        if reader.is_alive():
            reader.join(timeout=grace_seconds)
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
    return Ended(
        status=child.returncode,
        at_limit=at_limit,
        is_stopped=is_stopped,
        seconds=time.monotonic() - started,
        last_lines=tuple(last_lines),
    )


def end_group(leader: int, *, grace_seconds: float, wait: Callable[[], bool]) -> None:
    """SIGTERM to a process group, SIGKILL when it is still there after the grace.

    Args:
        leader: process id of the group's leader.
        grace_seconds: how long to wait in between.
        wait: whether the leader still lives.
    """
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGTERM)
        until = time.monotonic() + grace_seconds
        while wait() and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
        os.killpg(leader, signal.SIGKILL)


def boot_id() -> str:
    """Name of this start of the machine; process ids mean nothing after another one."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def start_ticks(pid: int) -> int | None:
    """When a process started, in ticks since boot; None when it is gone. Tells reused ids apart."""
    try:
        with open(f"/proc/{pid}/stat") as stream:
            fields = stream.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def _read(pipe: IO[str] | None, last_lines: deque[str], on_line: Callable[[str], None]) -> None:
    if pipe is None:
        return
    with suppress(ValueError, OSError):  # closed by the parent while a grandchild held it
        for line in pipe:
            text = line.rstrip("\n").rpartition("\r")[2]
            last_lines.append(text)
            on_line(text)
