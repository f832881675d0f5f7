"""One child process in its own process group: started, listened to, limited, ended.

Prefect's own time limits leave the child alive (specs/orchestration.md section 4), so limits are
kept here, by polling a clock that nobody sets. Nothing that descends from the child outlives this
process, however it dies (`flows.family`).
"""

import logging
import os
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Literal

from flows.family import VARIABLE, end_family, guarded, stat_fields

_logger = logging.getLogger(__name__)

POLL_SECONDS = 0.05
GRACE_SECONDS = 6.0
"""Between SIGTERM and SIGKILL; a stage writes nothing it could not do without in that time."""

Cut = Literal["", "stopped", "time limit", "hung"]
"""Why a child was ended from here; "" where it ended by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a child ended.

    status:     exit status, negative for a signal
    cut:        why it was ended from here, "" where it ended by itself
    last_lines: the end of what it printed
    """

    status: int
    cut: Cut
    seconds: float
    last_lines: tuple[str, ...]


def run_child(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    family: str,
    grace_seconds: float = GRACE_SECONDS,
    descriptors: Sequence[int] = (),
    on_start: Callable[[int], None],
    on_line: Callable[[str], None],
    verdict: Callable[[float], Cut],
) -> Ended:
    """Run a program to its end; whatever happens here, all that descends from it is gone after.

    Args:
        arguments: program and arguments.
        environment: the child's whole environment.
        family: word by which its descendants are found (`flows.family.new_mark`).
        grace_seconds: time between SIGTERM and SIGKILL; a hung child gets SIGKILL at once.
        descriptors: open files that the child holds, too, e.g. locks.
        on_start: told the child's process id.
        on_line: told every line of its output, from a reader thread.
        verdict: asked about twenty times a second, with the seconds since the start, whether to
            end it now and why; "" to let it work.

    Raises:
        OSError: It could not be started.
    """
    started = time.monotonic()
    with guarded(family, grace_seconds):
        child = subprocess.Popen(
            list(arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**environment, VARIABLE: family},
            text=True,
            errors="replace",
            bufsize=1,
            start_new_session=True,
            pass_fds=descriptors,
        )
        last_lines: deque[str] = deque(maxlen=20)
        reader = threading.Thread(
            target=_read, args=(child.stdout, last_lines, on_line), daemon=True
        )
        cut: Cut = ""
        try:
            reader.start()
            on_start(child.pid)
            while not cut and not _has_ended(child.pid):
                time.sleep(POLL_SECONDS)
                cut = verdict(time.monotonic() - started)
        finally:
            end_family(family, group=child.pid, grace_seconds=grace_seconds, is_hard=cut == "hung")
            child.wait()
            reader.join(timeout=grace_seconds)
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
    return Ended(
        status=child.returncode,
        cut=cut,
        seconds=time.monotonic() - started,
        last_lines=tuple(last_lines),
    )


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
        fields = stat_fields(pid)
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def _has_ended(pid: int) -> bool:
    """Whether it has; it is not waited for yet, so its number and its group's stay its own."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _read(pipe: IO[str] | None, last_lines: deque[str], on_line: Callable[[str], None]) -> None:
    if pipe is None:
        return
    with suppress(ValueError, OSError):  # closed by the parent while a grandchild held it
        for line in pipe:
            text = line.rstrip("\n").rpartition("\r")[2]
            last_lines.append(text)
            try:
                on_line(text)
            except Exception:  # a listener's trouble must not stop the reading: the pipe would fill
                _logger.exception("a line of a child's output could not be told: %s", text[:200])
