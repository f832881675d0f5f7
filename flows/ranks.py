"""Which of several processes of one step this is, and how each of them ended.

torchrun tells every process its number by environment and answers 1 whatever they answer
(specs/orchestration.md section 11), so each writes down how it ended and the worst one counts.
Outside torchrun there is one process, number 0.
"""

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from flows.errors import CRASHED_BY_SIGNAL, KILLED, STOPPED, ExitStatus
from storage.artifacts import atomic_write_json

WATCH_SECONDS = 0.25
"""Between two looks at whether the launcher lives."""

_USER_MATTER = frozenset(
    {ExitStatus.USAGE, ExitStatus.BAD_INPUT, ExitStatus.MISSING_INPUT, ExitStatus.BAD_CONFIG}
)


def rank() -> int:
    """Number of this process among all of the step."""
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """How many processes work on the step, on all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int:
    """Number of this process among those of its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def is_writer() -> bool:
    """Whether this process writes into the run folder and tells how far the step is.

    One on each machine, as every machine has a run folder of its own; with one machine it is
    number 0.
    """
    return local_rank() == 0


def watch_launcher(when_gone: Callable[[], None]) -> None:
    """Call `when_gone` from a daemon thread once the process that started this one is gone.

    torchrun's agent may be killed alone; its workers live in sessions of their own, and nothing
    else would tell them.
    """
    launcher = os.getppid()

    def wait() -> None:
        while os.getppid() == launcher:
            time.sleep(WATCH_SECONDS)
        when_gone()

    threading.Thread(target=wait, name="launcher-watch", daemon=True).start()


def exits_folder(request: Path) -> Path:
    """Where the processes of a request write down how they ended; beside the request."""
    return request.with_name(f"{request.name.removesuffix('.json')}.ranks")


def write_exit(folder: Path, status: int, message: str, *, number: int | None = None) -> None:
    """Write down how a process ended; an earlier entry of the same process stays.

    Args:
        folder: `exits_folder` of the request.
        status: Exit status, negative for a signal.
        message: One line, "" for none.
        number: Of the process; None for this one.
    """
    path = folder / f"exit.rank{rank() if number is None else number}.json"
    if not path.exists():
        with suppress(OSError):  # a full disk must not hide the error itself
            folder.mkdir(parents=True, exist_ok=True)
            atomic_write_json(path, {"status": int(status), "message": message})


def forget_exits(folder: Path) -> None:
    """Remove what an earlier attempt wrote down."""
    for path in folder.glob("exit.rank*.json"):
        path.unlink(missing_ok=True)


def worst_exit(folder: Path) -> tuple[int, str] | None:
    """Status and line of the process that is to blame; None where nobody wrote anything.

    The others fail after it, by lost connections or because the agent ends them.
    """
    found: list[tuple[int, str]] = []
    for path in sorted(folder.glob("exit.rank*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            entry = json.loads(path.read_text(encoding="utf-8"))
            found.append((int(entry["status"]), str(entry["message"])))
    return min(found, key=lambda each: _blame(each[0]), default=None)


def _blame(status: int) -> int:
    """The lower, the likelier a cause and not a consequence."""
    order = (_USER_MATTER, KILLED, CRASHED_BY_SIGNAL, {ExitStatus.CRASHED})
    for place, statuses in enumerate(order):
        if status in statuses:
            return place
    return len(order) + (status in STOPPED) + 2 * (status == ExitStatus.DONE)
