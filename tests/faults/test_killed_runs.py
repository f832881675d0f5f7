"""A run that is killed leaves no process, keeps what was finished, and goes on where it stopped."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flows.attempts import add_attempt, attempts_at
from flows.process import boot_id, start_ticks
from flows.run_folder import RunFolder, StepState, locked
from tests.builders_flows import PYTHON, ROOT, is_alive, python_environment, until


def start(folder: Path, seconds: float) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [PYTHON, "-m", "tests.run_fake_plan", str(folder), str(seconds)],
        env=python_environment(),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture
def slow_run(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A run whose second step has counted to a few."""
    run = start(tmp_path, 30.0)
    try:
        until(lambda: _counted(tmp_path) >= 3, seconds=60)
        yield run
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
        run.communicate()


def test_a_child_does_not_outlive_a_killed_parent(
    slow_run: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    child = _state(tmp_path, "second")["pid"]
    assert is_alive(child)
    slow_run.kill()
    slow_run.wait()
    until(lambda: not is_alive(child))


def test_sigterm_ends_parent_and_child(slow_run: "subprocess.Popen[str]", tmp_path: Path) -> None:
    child = _state(tmp_path, "second")["pid"]
    slow_run.terminate()
    assert slow_run.wait(timeout=60) == 143
    assert not is_alive(child)
    assert _state(tmp_path, "second")["state"] == "stopped"


def test_a_killed_run_goes_on_from_its_checkpoint(
    slow_run: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    finished = next(tmp_path.glob("first-*/text"))
    before = finished.stat().st_mtime_ns
    child = _state(tmp_path, "second")["pid"]
    os.killpg(slow_run.pid, signal.SIGKILL)
    os.killpg(child, signal.SIGKILL)
    slow_run.wait()
    counted = _counted(tmp_path)
    again = start(tmp_path, 0.1)
    _, errors = again.communicate(timeout=60)
    assert again.returncode == 0, errors
    assert finished.stat().st_mtime_ns == before
    assert next(tmp_path.glob("third-*/DONE.json")).exists()
    # seconds is part of the config, so the killed step has another folder here; the same config:
    assert counted >= 3


def test_the_same_command_resumes_inside_the_folder(tmp_path: Path) -> None:
    first = start(tmp_path, 6.0)
    until(lambda: _counted(tmp_path) >= 5)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    again = start(tmp_path, 6.0)
    _, errors = again.communicate(timeout=60)
    assert again.returncode == 0, errors
    folder = next(tmp_path.glob("second-*"))
    begun = sorted(int(path.name.removeprefix("began-at-")) for path in folder.glob("began-at-*"))
    assert begun[0] == 0
    assert len(begun) == 2
    assert begun[1] >= 5
    assert (folder / "checkpoint").read_text() == "100"


def test_two_runs_in_one_folder_refuse_and_name_the_process(
    slow_run: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    second = start(tmp_path, 30.0)
    _, errors = second.communicate(timeout=20)
    assert second.returncode == 2
    assert f"being written by process {slow_run.pid} (" in errors
    assert errors.count("\n") == 1


def test_an_orphan_is_ended_before_its_folder_is_used_again(tmp_path: Path) -> None:
    orphan = subprocess.Popen(
        [PYTHON, "-c", "import time; time.sleep(300)"], start_new_session=True
    )
    run = RunFolder(tmp_path)
    (tmp_path / "state").mkdir()
    state = StepState(
        step="one",
        folder="one-1",
        fingerprint="1",
        state="running",
        attempt=1,
        started_at="",
        updated_at="",
        seconds=1.0,
        pid=orphan.pid,
        start_ticks=start_ticks(orphan.pid),
        boot_id=boot_id(),
        host=os.uname().nodename,
    )
    run.write_state(replace(state, step="other", start_ticks=1))
    run.write_state(state)
    with locked(run):
        assert orphan.wait(timeout=10) == -signal.SIGTERM
    assert {each.state for each in run.states()} == {"stopped"}
    assert [each.outcome for each in attempts_at(run, "one", "1")] == ["parent gone"]


def test_an_attempt_that_was_written_down_is_not_counted_twice(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    (tmp_path / "state").mkdir()
    state = StepState(
        step="one",
        folder="one-1",
        fingerprint="1",
        state="running",
        attempt=1,
        started_at="",
        updated_at="",
        seconds=1.0,
        host="gone",
    )
    run.write_state(state)
    add_attempt(run, replace(state.as_attempt(), outcome="crashed"))
    with locked(run):
        pass
    assert [each.outcome for each in attempts_at(run, "one", "1")] == ["crashed"]


def _state(folder: Path, step: str) -> dict[str, object]:
    return json.loads((folder / "state" / f"{step}.json").read_text())


def _counted(folder: Path) -> int:
    found = [path.read_text() for path in folder.glob("second-*/checkpoint")]
    return max((int(text) for text in found if text), default=0)
