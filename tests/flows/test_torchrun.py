"""Two processes train as one; whatever dies, the result is the same and nothing is left behind."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from flows.attempts import read_attempts
from flows.errors import StageFailedError
from flows.plan import Step
from flows.run_folder import RunFolder
from flows.scale import LOCAL, Scale
from tests import training_stage
from tests.builders_flows import (
    PYTHON,
    ROOT,
    is_alive,
    make_execution,
    python_environment,
    until,
)

TWO = Scale(engine="torchrun", workers=2)


def run(folder: Path, scale: Scale = TWO, **config: Any) -> dict[str, Any]:
    """One training step through the runner; its done-mark's summary."""
    step = Step(name="train", stage="tests.training_stage", config=training_stage.Config(**config))
    replace(make_execution(folder, [step]), scale=scale).run_step("train")
    return json.loads((place(folder) / "DONE.json").read_text())["summary"]


def place(folder: Path) -> Path:
    (found,) = folder.glob("train-*")
    return found


def assert_alike(one: Path, other: Path) -> None:
    """Weights equal up to rounding."""
    first, second = (load_file(place(each) / "model/model.safetensors") for each in (one, other))
    assert set(first) == set(second)
    for name, value in first.items():
        if "key.bias" not in name:  # its gradient is rounding noise
            assert value.allclose(second[name], atol=1e-4), name


def bytes_of(folder: Path) -> tuple[bytes, bytes]:
    return (
        (place(folder) / "model/model.safetensors").read_bytes(),
        (place(folder) / "losses.jsonl").read_bytes(),
    )


@pytest.fixture(scope="module", autouse=True)
def _tests_can_be_imported() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", python_environment()["PYTHONPATH"])
        yield


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed training by two processes."""
    folder = tmp_path_factory.mktemp("unbroken")
    assert run(folder)["num_processes"] == 2
    return folder


@pytest.mark.prefect
def test_two_processes_learn_what_one_learns(unbroken: Path, tmp_path: Path) -> None:
    assert run(tmp_path, LOCAL)["num_processes"] == 1
    assert_alike(tmp_path, unbroken)
    rows = [
        [json.loads(line) for line in (place(each) / "losses.jsonl").read_text().splitlines()]
        for each in (tmp_path, unbroken)
    ]
    assert [row["step"] for row in rows[1]] == [1, 2, 3, 4, 5, 6]
    for alone, together in zip(*rows, strict=True):
        assert together["total"] == pytest.approx(alone["total"], abs=1e-4)
        assert together["accuracy"] == pytest.approx(alone["accuracy"], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fails", "whose", "outcome", "resumed_at"),
    [
        (str(int(signal.SIGKILL)), 1, "killed", 2),
        (str(int(signal.SIGTERM)), 1, "preempted", 3),  # all stop together, with a checkpoint
    ],
)
def test_a_lost_process_costs_nothing_but_time(
    unbroken: Path, tmp_path: Path, fails: str, whose: int, outcome: str, resumed_at: int
) -> None:
    # a failure is part of the stage's config but not of what it learns
    summary = run(tmp_path, fails=fails, whose=whose)
    assert summary["resumed_at"] == resumed_at
    tried = read_attempts(RunFolder(tmp_path))
    assert [each.outcome for each in tried] == [outcome, "done"]
    assert bytes_of(tmp_path) == bytes_of(unbroken)


@pytest.mark.slow
def test_what_one_process_says_is_the_line_of_all(tmp_path: Path) -> None:
    with pytest.raises(StageFailedError, match=r"train: row 3: no answer; remove the row$"):
        run(tmp_path, fails="bad", whose=1)
    (tried,) = read_attempts(RunFolder(tmp_path))
    assert (tried.outcome, tried.status) == ("bad input", 65)


@contextmanager
def training_elsewhere(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, list[int]]]:
    """A long training under a parent of its own: parent, torchrun's agent, both workers."""
    config = json.dumps({"steps": 1000, "seconds": 0.2})
    parent = subprocess.Popen(
        [PYTHON, str(ROOT / "tests/run_training_plan.py"), str(folder), config],
        env=python_environment(),
    )
    workers: list[int] = []
    try:
        until(lambda: bool(list(folder.glob("train-*/step"))), seconds=200)
        pids = [path.read_text().split() for path in sorted(place(folder).glob("pids/*"))]
        workers = [int(own) for own, _ in pids]
        (agent,) = {int(above) for _, above in pids}
        assert len(workers) == 2
        yield parent, agent, workers
    finally:
        parent.kill()
        parent.wait()
        for pid in workers:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("is_one_stopped", [False, True])
def test_no_process_outlives_the_parent(tmp_path: Path, is_one_stopped: bool) -> None:
    with training_elsewhere(tmp_path) as (parent, agent, workers):
        if is_one_stopped:
            os.kill(workers[1], signal.SIGSTOP)
        parent.kill()
        parent.wait()
        until(lambda: not any(map(is_alive, [agent, *workers])), seconds=40)


@pytest.mark.slow
def test_workers_do_not_outlive_torchruns_agent(tmp_path: Path) -> None:
    with training_elsewhere(tmp_path) as (parent, agent, workers):
        os.kill(agent, signal.SIGKILL)
        until(lambda: not any(map(is_alive, workers)), seconds=40)
        until(lambda: len(list(place(tmp_path).glob("pids/*"))) == 2)
        assert parent.poll() is None  # it tries again


@pytest.mark.slow
def test_a_process_without_an_example_keeps_up(tmp_path: Path) -> None:
    run(tmp_path / "one", LOCAL, steps=2, batch_size=1)
    run(tmp_path / "two", TWO, steps=2, batch_size=1)
    assert_alike(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_two_machines_learn_what_two_workers_learn(unbroken: Path, tmp_path: Path) -> None:
    """Each has a run folder of its own; one worker of the second one is lost on the way."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"

    def machine(number: int) -> dict[str, Any]:
        scale = Scale(engine="torchrun", workers=1, nodes=2, node_rank=number, rendezvous=address)
        killed = str(int(signal.SIGKILL))
        return run(tmp_path / str(number), scale, fails=killed, whose=1)

    with ThreadPoolExecutor(2) as pool:
        summaries = list(pool.map(machine, range(2)))
    assert [each["num_processes"] for each in summaries] == [2, 2]
    assert bytes_of(tmp_path / "0") == bytes_of(tmp_path / "1")
    assert_alike(tmp_path / "0", unbroken)  # workers alone on a machine have all its threads
