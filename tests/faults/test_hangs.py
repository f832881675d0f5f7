"""What stands still, or leaves processes behind, is ended with all that descends from it."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.attempts import read_attempts
from flows.family import VARIABLE, end_family, members, new_mark, stat_fields
from flows.limits import StageLimits
from flows.run_folder import RunFolder, locked
from tests.builders_flows import (
    PYTHON,
    ROOT,
    Watched,
    is_alive,
    make_execution,
    make_step,
    python_environment,
    until,
)


@pytest.fixture(autouse=True)
def _importable_by_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", python_environment()["PYTHONPATH"])


def test_a_stopped_child_is_killed_with_its_descendants_and_tried_again(tmp_path: Path) -> None:
    watched = Watched()
    limits = StageLimits(heartbeat_seconds=2.0)
    execution = make_execution(
        tmp_path, [make_step("one", action="freeze", limits=limits)], tell=watched
    )
    started = time.monotonic()
    assert execution.run_step("one").state == "done"
    assert time.monotonic() - started < 60
    assert [each.outcome for each in read_attempts(execution.run)] == ["hung", "done"]
    assert "hung: no sign of life for" in watched.messages("retry")[0]
    assert not any(is_alive(pid) for pid in pids_of(execution.prepared["one"].folder))


def test_a_child_that_lives_and_does_nothing_is_hung_where_a_limit_is_set(tmp_path: Path) -> None:
    limits = StageLimits(silence_seconds=3.0)
    execution = make_execution(tmp_path, [make_step("one", action="idle", limits=limits)])
    execution.run_step("one")
    hung, done = read_attempts(execution.run)
    assert (hung.outcome, done.outcome) == ("hung", "done")
    assert "no progress for" in hung.message


def test_what_a_dead_child_left_behind_goes_with_it(tmp_path: Path) -> None:
    execution = make_execution(tmp_path, [make_step("one", action="leave")])
    execution.run_step("one")
    _, grandchild = pids_of(execution.prepared["one"].folder)
    assert not is_alive(grandchild)


@pytest.fixture
def frozen_run(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A run whose second step's child is stopped and has a grandchild in a session of its own."""
    run = subprocess.Popen(
        [PYTHON, "-m", "tests.run_fake_plan", str(tmp_path), "1", "freeze"],
        env=python_environment(),
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        until(lambda: any(tmp_path.glob("second-*/pids")), seconds=60)
        child, _ = pids_of(next(tmp_path.glob("second-*")))
        until(lambda: stat_fields(child)[0] == "T")
        yield run
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()


def test_a_stopped_child_does_not_outlive_a_killed_parent(
    frozen_run: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    pids = pids_of(next(tmp_path.glob("second-*")))
    frozen_run.kill()
    frozen_run.wait()
    until(lambda: not any(is_alive(pid) for pid in pids))


def test_a_grandchild_does_not_outlive_parent_and_child_killed_together(
    frozen_run: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    child, grandchild = pids_of(next(tmp_path.glob("second-*")))
    frozen_run.kill()
    os.kill(child, signal.SIGKILL)
    frozen_run.wait()
    until(lambda: not is_alive(grandchild))


def test_what_nobody_was_left_to_end_is_ended_by_the_next_start(
    frozen_run: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    child, grandchild = pids_of(next(tmp_path.glob("second-*")))
    for guard in guards_of(frozen_run.pid):
        os.kill(guard, signal.SIGKILL)
    frozen_run.kill()
    frozen_run.wait()
    os.kill(child, signal.SIGKILL)
    until(lambda: not is_alive(child))
    assert is_alive(grandchild)
    run = RunFolder(tmp_path)
    with locked(run):
        assert not is_alive(grandchild)
    state = run.read_state("second")
    assert state is not None
    assert state.state == "stopped"
    assert read_attempts(run)[-1].outcome == "parent gone"


def test_a_stopped_orphan_is_ended_by_the_next_start(
    frozen_run: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    pids = pids_of(next(tmp_path.glob("second-*")))
    for guard in guards_of(frozen_run.pid):
        os.kill(guard, signal.SIGKILL)
    frozen_run.kill()
    frozen_run.wait()
    assert all(is_alive(pid) for pid in pids)
    with locked(RunFolder(tmp_path)):
        assert not any(is_alive(pid) for pid in pids)


def test_a_process_that_ignores_sigterm_is_killed_after_the_grace() -> None:
    mark = new_mark()
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True)"
    child = subprocess.Popen(
        [PYTHON, "-c", f"{code}; time.sleep(300)"],
        env={**os.environ, VARIABLE: mark},
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        assert members(mark) == [child.pid]
        end_family(mark, grace_seconds=0.3)
        assert child.wait(timeout=5) == -signal.SIGKILL
    assert members(mark) == []


def pids_of(folder: Path) -> list[int]:
    """The child and its grandchild."""
    return [int(pid) for pid in (folder / "pids").read_text().split()]


def guards_of(parent: int) -> list[int]:
    """Processes that wait for the parent's death."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            owner = int(stat_fields(int(entry.name))[1])
        except OSError:
            continue
        if owner == parent and any(word.endswith(b"guard.py") for word in words):
            found.append(int(entry.name))
    return found
