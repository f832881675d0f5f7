"""How far a run is, told from its folder alone."""

import json
import os
import socket
import subprocess
import threading
import time
from io import StringIO
from pathlib import Path

import pytest

from flows.attempts import Attempt, add_attempt
from flows.commands.status import RunStatus, show_status, status_of
from flows.errors import FlowError
from flows.family import VARIABLE, members
from flows.process import boot_id, start_ticks
from flows.run_folder import RunFolder, StepState, holder_of, locked, utc_now
from storage.artifacts import write_done
from tests.builders_flows import until

MARK = "0123456789ab"


def make_run(folder: Path, *steps: str) -> RunFolder:
    run = RunFolder(folder)
    folder.mkdir(exist_ok=True)
    run.steps.write_text(json.dumps({step: f"{step}-{MARK}" for step in steps}))
    return run


def make_state(run: RunFolder, step: str, state: str, **changes: object) -> None:
    known: dict[str, object] = {
        "step": step,
        "folder": f"{step}-{MARK}",
        "fingerprint": MARK,
        "state": state,
        "attempt": 1,
        "started_at": utc_now(),
        "updated_at": utc_now(),
        "seconds": 3.0,
        "pid": os.getpid(),
        "start_ticks": start_ticks(os.getpid()),
        "boot_id": boot_id(),
        "host": socket.gethostname(),
    }
    run.write_state(StepState(**{**known, **changes}))


def make_attempt(step: str, outcome: str, number: int, halvings: int = 0) -> Attempt:
    return Attempt(
        step=step,
        fingerprint=MARK,
        number=number,
        began=utc_now(),
        seconds=1.0,
        outcome=outcome,
        halvings=halvings,
    )


def states(status: RunStatus) -> dict[str, str]:
    return {step.step: step.state for step in status.steps}


def test_every_step_of_the_plan_is_told_in_its_order(tmp_path: Path) -> None:
    run = make_run(tmp_path, "b", "a", "c", "d")
    (tmp_path / f"b-{MARK}").mkdir()
    write_done(tmp_path / f"b-{MARK}", MARK, {"seconds": 2.5, "peak_bytes": 10**9})
    make_state(run, "a", "running", progress="3/7 photos", family="of-this-test")
    make_state(run, "c", "failed", message="no room")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, env={VARIABLE: "of-this-test"}) as member:
        until(lambda: members("of-this-test") == [member.pid])
        status = status_of(run)
        member.communicate()
    assert list(states(status).items()) == [
        ("b", "done"),
        ("a", "running"),
        ("c", "failed"),
        ("d", "waiting"),
    ]
    assert [step.said for step in status.steps] == ["", "3/7 photos", "no room", ""]
    assert status.steps[0].bytes == 10**9
    assert (status.steps[1].bytes or 0) > 10**4


def test_the_done_mark_decides_not_the_state(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a", "b")
    make_state(run, "a", "done")
    make_state(run, "b", "running", pid=2**22 - 1)
    assert states(status_of(run)) == {"a": "not whole", "b": "gone"}


def test_a_state_of_other_settings_is_not_told(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a")
    make_state(run, "a", "failed", folder="a-ffffffffffff")
    assert states(status_of(run)) == {"a": "waiting"}


def test_attempts_are_counted_with_what_went_wrong(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a")
    for number, outcome in enumerate(("out of memory", "out of memory", "hung"), 1):
        add_attempt(run, make_attempt("a", outcome, number, halvings=2))
    make_state(run, "a", "running", attempt=4)
    [step] = status_of(run).steps
    assert step.attempts == "4 (2 x out of memory, hung, batch / 4)"


def test_who_works_on_it_is_told(tmp_path: Path) -> None:
    run = make_run(tmp_path, "a")
    assert holder_of(run) == ""
    with locked(run):
        assert f"process {os.getpid()} " in status_of(run).line()
    assert "to go on: oscar-flow resume" in status_of(run).line()
    now = utc_now()
    for killed in (
        f"process {2**22 - 1} (oscar-flow run, since {now})",
        f"process {os.getpid()} (oscar-flow run another.yaml, since {now})",
    ):
        (tmp_path / ".lock").write_text(killed)
        assert holder_of(run) == ""


def test_a_folder_without_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match=r"no run here; oscar-flow run CONFIG --out"):
        status_of(RunFolder(tmp_path))


def test_watching_ends_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.commands.status.WATCH_SECONDS", 0.02)
    run = make_run(tmp_path, "a")
    said = StringIO()
    watcher = threading.Thread(
        target=show_status, args=(tmp_path,), kwargs={"watch": True, "stream": said}
    )
    with locked(run):
        watcher.start()
        make_state(run, "a", "running")
        end = time.monotonic() + 10
        while "a  running" not in said.getvalue() and time.monotonic() < end:
            time.sleep(0.02)
        make_state(run, "a", "failed", message="no room")
    watcher.join(10)
    assert not watcher.is_alive()
    assert said.getvalue().splitlines()[:2] == ["a  running", "a  failed  no room"]
    assert "nobody works on it" in said.getvalue()
