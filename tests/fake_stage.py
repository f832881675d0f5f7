"""A small stage that does what its config says: write, hang, fail, die. Real child, no mocks."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from flows.child_scale import should_stop
from flows.progress import SILENT, Progress
from storage.artifacts import atomic_write_text
from storage.errors import RecordError

VERSION = 1
SHRINKABLE = ("batch_size",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """`action` names what to do; `times` how often it goes wrong before it goes well."""

    action: str = "write"
    text: str = "made"
    times: int = 1
    seconds: float = 60.0
    batch_size: int = 8
    words: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    text: Path | None = None
    more: dict[str, Path] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    text: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    num_out: int


def run(config: Config, inputs: Inputs, outputs: Outputs, progress: Progress = SILENT) -> Summary:
    folder = outputs.text.parent
    attempt = _count(folder / "attempts")
    if config.action == "hang":
        atomic_write_text(folder / "pids", f"{os.getpid()} {_grandchild()}")
        time.sleep(config.seconds)
    if config.action in ("count", "count and die"):
        _count_slowly(folder, config, progress)
    if config.action == "heed":
        _count_heedfully(folder, attempt)
    if config.action == "stammer":
        _print_in_pieces()
    if attempt <= config.times:
        _go_wrong(config.action, folder)
    found = inputs.text.read_text() if inputs.text is not None else ""
    found += "".join(path.read_text() for path in (inputs.more or {}).values())
    threads = os.environ["OMP_NUM_THREADS"]
    text = f"{config.text} by batches of {config.batch_size}"
    atomic_write_text(outputs.text, f"{found}{text}\n")
    atomic_write_text(folder / "threads", threads)
    print("a library chats")
    return Summary(num_out=1)


def _go_wrong(action: str, folder: Path) -> None:
    if action == "bad":
        raise RecordError("row 3 of captions.json: no text; remove the row")
    if action == "crash":
        raise ValueError("not our fault")
    if action == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "shard"))
    if action == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if action == "memory":
        raise MemoryError("cannot have 8 GB")
    if action == "lost":
        raise ConnectionResetError(errno.ECONNRESET, "the other worker is gone")
    if action == "preempted":
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    if action == "freeze":
        atomic_write_text(folder / "pids", f"{os.getpid()} {_grandchild(is_apart=True)}")
        os.kill(os.getpid(), signal.SIGSTOP)
    if action == "leave":
        atomic_write_text(folder / "pids", f"{os.getpid()} {_grandchild(is_apart=True)}")
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "idle":
        time.sleep(60)
    if action == "limit":  # a file may not grow beyond 4 kB: the nearest thing to a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        (folder / "shard").write_bytes(bytes(100_000))


def _count_slowly(folder: Path, config: Config, progress: Progress) -> None:
    """Count to a hundred with a checkpoint at every number, as a training does."""
    checkpoint = folder / "checkpoint"
    first = int(checkpoint.read_text()) if checkpoint.exists() else 0
    atomic_write_text(folder / f"began-at-{first}", "")
    for number in range(first, 100):
        progress.at(number, 100)
        if config.action == "count and die" and number == first + 25:
            progress.at(number, 100, is_last=True)
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(config.seconds / 100)
        atomic_write_text(checkpoint, str(number + 1))


def _count_heedfully(folder: Path, attempt: int) -> None:
    """Told to end in the middle of a number, it finishes that one, then stops."""
    checkpoint = folder / "checkpoint"
    first = int(checkpoint.read_text()) if checkpoint.exists() else 0
    for number in range(first, 20):
        if should_stop():
            raise RuntimeError(f"stopped before {number}")
        if attempt == 1 and number == 10:
            os.kill(os.getpid(), signal.SIGTERM)
        atomic_write_text(checkpoint, str(number + 1))
        atomic_write_text(folder / f"made-{number}-by-{attempt}", "")


def _print_in_pieces() -> None:
    sys.stdout.write("half a line")
    time.sleep(2.5)
    sys.stdout.write(" and the rest\n")


def _count(path: Path) -> int:
    number = int(path.read_text()) + 1 if path.exists() else 1
    atomic_write_text(path, str(number))
    return number


def _grandchild(*, is_apart: bool = False) -> int:
    """A process that a stage starts and forgets, in its group or in a session of its own."""
    code = "import time; time.sleep(300)"
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, start_new_session=is_apart
    ).pid
