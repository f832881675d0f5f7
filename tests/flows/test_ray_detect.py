"""Extraction through Ray and torchrun: the same bytes as alone, whoever dies in the middle."""

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.scale import Scale
from tests.builders_extraction import Ground, finish
from tests.builders_flows import until
from tests.processes import descendants, survivors

RAY = Scale(engine="ray", workers=2)
TORCHRUN = Scale(engine="torchrun", workers=2)
NUM_PHOTOS = 60


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    ground = Ground(tmp_path_factory.mktemp("spread"), NUM_PHOTOS)
    ground.extract("local")
    return ground


@pytest.mark.slow
def test_ray_with_a_worker_killed_in_the_middle_writes_what_one_process_writes(
    ground: Ground,
) -> None:
    child = ground.start("ray", RAY)
    killed: list[int] = []
    below: dict[int, str] = {}

    def kill_a_worker() -> None:
        until(lambda: num_shards(ground, "ray") >= 2 or child.poll() is not None, seconds=250)
        below.update(descendants(child.pid))
        workers = [each for each, command in below.items() if "MapWorker" in command]
        killed.extend(workers[:1])
        for worker in killed:
            os.kill(worker, signal.SIGKILL)

    with_kill(kill_a_worker, lambda: finish(child))
    assert killed, "no worker was found"
    assert num_shards(ground, "ray") == NUM_PHOTOS / 4
    assert ground.bytes_of("ray") == ground.bytes_of("local")
    summary = json.loads((ground.folder / "ray/DONE.json").read_text())["summary"]
    assert (summary["num_in"], summary["num_quarantined"]) == (NUM_PHOTOS, 1)
    assert not survivors(below)


@pytest.mark.slow
def test_two_processes_of_torchrun_write_what_one_process_writes(ground: Ground) -> None:
    printed = finish(ground.start("torchrun", TORCHRUN))
    assert ground.bytes_of("torchrun") == ground.bytes_of("local")
    reports = [json.loads(line) for line in printed.splitlines() if '"progress"' in line]
    assert reports[-1]["done"] == reports[-1]["total"] == NUM_PHOTOS


@pytest.mark.slow
def test_a_shard_lost_between_two_tries_is_all_that_is_made_again(ground: Ground) -> None:
    finish(ground.start("again", TORCHRUN))
    regions = ground.folder / "again/regions"
    (regions / "manifest.json").unlink()
    (regions / "regions-00003.parquet").write_bytes(b"cut")
    before = times_of(regions)
    finish(ground.start("again", TORCHRUN))
    assert ground.bytes_of("again") == ground.bytes_of("local")
    changed = {name for name, time in times_of(regions).items() if before.get(name) != time}
    assert changed == {"manifest.json", "regions-00003.parquet"}


def with_kill(kill: Callable[[], None], work: Callable[[], object]) -> None:
    """Work while another thread kills."""
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        work()
    finally:
        killer.join()


def num_shards(ground: Ground, name: str) -> int:
    return len(list((ground.folder / name / "regions").glob("*.parquet")))


def times_of(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
