"""Starts, watches and kills processes that train together."""

import json
import multiprocessing
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from tests.training_process import main

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.training_process"])


@contextmanager
def training(
    folder: Path,
    num: int,
    *,
    task: str = "vqa",
    dropout: float = 0.0,
    stop_at: int = 0,
    **changes: Any,
) -> Iterator[Sequence[ForkServerProcess]]:
    """Processes of one training, which are gone when the block ends.

    Args:
        folder: Of the training; what lies there is gone on with.
        num: Processes.
        task: Of `tests/training_process.py`.
        dropout: Of the model.
        stop_at: Update at which all are asked to stop; 0: never.
        changes: Of `tests.builders_library.tiny_training`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    place = {"WORLD_SIZE": str(num), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    if Path("/sys/class/net/lo").exists():
        place["GLOO_SOCKET_IFNAME"] = "lo"
    processes = []
    for rank in range(num):
        mine = place | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        given = (folder, task, dropout, changes, mine, stop_at)
        process = _CONTEXT.Process(target=main, args=given)
        process.start()
        processes.append(process)
    try:
        yield processes
    finally:
        kill(processes)


def kill(processes: Sequence[ForkServerProcess]) -> None:
    """SIGKILL to all that live."""
    for process in processes:
        process.kill()
    for process in processes:
        process.join()


def train(folder: Path, num: int, **settings: Any) -> None:
    """Train to the end.

    Raises:
        AssertionError: A process failed; its last words are told.
    """
    with training(folder, num, **settings) as processes:
        for rank, process in enumerate(processes):
            process.join(timeout=280)
            assert process.exitcode == 0, (folder / f"stderr{rank}").read_text()[-2000:]


def kill_behind(
    folder: Path, num: int, step: int, wait: Callable[[], float], **settings: Any
) -> int:
    """Train until an update is told, and somewhat longer, then SIGKILL to all.

    Returns:
        The last update that was told.
    """
    with training(folder, num, **settings) as processes:
        while reached(folder) < step:
            assert all(each.is_alive() for each in processes), "a process ended by itself"
            time.sleep(0.001)
        time.sleep(wait())
        kill(processes)
    return reached(folder)


def reached(folder: Path) -> int:
    """The last update that was told; 0 before the first."""
    try:
        return int((folder / "step").read_text())
    except FileNotFoundError:
        return 0


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The losses."""
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
