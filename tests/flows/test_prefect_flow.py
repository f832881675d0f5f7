"""The plan under Prefect: embedded server, a named server, failures, and the end by a signal.

Each run is a process of its own, as the command line starts it; one server serves them all.
"""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from flows.orchestration import database
from tests.builders_flows import PYTHON, ROOT, is_alive, until
from tests.prefect_server import answers, ask, free_port, plain_environment, start_server

pytestmark = pytest.mark.prefect
STEPS = ["first", "last", "left", "right"]


def test_the_embedded_server_needs_nothing_and_says_nothing(tmp_path: Path) -> None:
    ended = _run(tmp_path / "run", "write")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == dict.fromkeys(STEPS, "done")
    assert ended.stderr == ""
    assert (tmp_path / ".prefect" / "prefect.db").is_file()
    assert sorted(path.parent.name[:-13] for path in tmp_path.glob("run/*/DONE.json")) == STEPS


def test_the_embedded_server_does_not_outlive_a_killed_run(tmp_path: Path) -> None:
    run = _start(tmp_path / "run", "hang")
    try:
        until(lambda: bool(list(tmp_path.glob("run/right-*/pids"))), seconds=120)
        servers = _servers_of(run.pid)
        assert len(servers) == 1
        run.kill()
        run.communicate()
        until(lambda: not is_alive(servers[0]), seconds=30)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.communicate()


def test_a_named_server_sees_every_step(server: str, tmp_path: Path) -> None:
    ended = _run(tmp_path / "seen", "write", PREFECT_API_URL=server)
    assert ended.returncode == 0, ended.stderr
    assert _flow_state(server, "seen") == "Completed"
    states = _task_states(server, "seen")
    assert states == dict.fromkeys(STEPS, "Completed")
    assert not (tmp_path / ".prefect" / "prefect.db").exists()
    again = _run(tmp_path / "seen", "write", PREFECT_API_URL=server)
    assert json.loads(again.stdout) == dict.fromkeys(STEPS, "already done")


def test_what_a_child_says_and_how_far_it_is_shows_at_its_task(server: str, tmp_path: Path) -> None:
    ended = _run(tmp_path / "told", "count", "14", PREFECT_API_URL=server)
    assert ended.returncode == 0, ended.stderr
    run = ask(server, "flow_runs", _of("told"))[0]
    assert run["name"] == "told, 4 steps"
    assert set(run["tags"]) >= {"oscar-flow", "run:told", f"host:{socket.gethostname()}"}
    tasks = {each["id"]: each for each in ask(server, "task_runs", _of("told"))}
    assert all(task["tags"] == [] for task in tasks.values())
    of_run = {"logs": {"flow_run_id": {"any_": [run["id"]]}}}
    said = {
        tasks[line["task_run_id"]]["name"]
        for line in ask(server, "logs", of_run)
        if line["message"] == "a library chats"
    }
    assert said == set(STEPS)
    shown = ask(server, "artifacts", {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}})
    bars = {each["key"]: each for each in shown if each["type"] == "progress"}
    assert bars["progress-right"]["data"] == 100.0
    assert bars["progress-right"]["description"].startswith("**right**: done in ")
    assert tasks[bars["progress-right"]["task_run_id"]]["name"] == "right"
    assert "progress-first" not in bars


def test_a_second_start_says_what_was_done_already(server: str, tmp_path: Path) -> None:
    _run(tmp_path / "twice", "bad", PREFECT_API_URL=server)
    again = _run(tmp_path / "twice", "bad", PREFECT_API_URL=server)
    assert again.returncode == 0, again.stderr
    first, second = sorted(ask(server, "flow_runs", _of("twice")), key=lambda run: run["created"])
    assert (first["name"], first["state_name"]) == ("twice, 4 steps", "Failed")
    assert (second["name"], second["state_name"]) == ("twice, 2 of 4 steps", "Completed")
    of_second = {"flow_runs": {"id": {"any_": [second["id"]]}}}

    def states() -> dict[str, object]:
        return {each["name"]: each["state_name"] for each in ask(server, "task_runs", of_second)}

    expected = {"first": "AlreadyDone", "left": "AlreadyDone"}
    until(lambda: states() == {**expected, "right": "Completed", "last": "Completed"})


def test_a_killed_run_is_marked_crashed_by_the_next_start(server: str, tmp_path: Path) -> None:
    _killed(tmp_path / "runs" / "killed", server)
    assert _flow_state(server, "killed") == "Running"
    again = _run(tmp_path / "runs" / "killed", "write", PREFECT_API_URL=server)
    assert again.returncode == 0, again.stderr
    states = {run["name"]: run["state_name"] for run in ask(server, "flow_runs", _of("killed"))}
    assert sorted(states.values()) == ["Completed", "Crashed"]
    tasks = ask(server, "task_runs", _of("killed"))
    assert "Running" not in {task["state_name"] for task in tasks}
    assert "Crashed" in {task["state_name"] for task in tasks}


def test_doctor_reaps_what_was_killed_and_only_that(server: str, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    _killed(runs / "reaped", server)
    told = _doctor(runs, PREFECT_API_URL=server)
    assert told.stdout == "runs/reaped: 1 flow run marked\n", told.stderr
    assert _flow_state(server, "reaped") == "Crashed"
    assert _doctor(runs, PREFECT_API_URL=server).stdout.startswith("nothing to reap")


def test_a_run_that_ended_well_is_no_failed_one(server: str, tmp_path: Path) -> None:
    """Its server was away for a while, and Prefect called it failed when that was back."""
    _run(tmp_path / "runs" / "called-failed", "bad", PREFECT_API_URL=server)
    (flow_run,) = ask(server, "flow_runs", _of("called-failed"))
    word = {
        "flow_run_id": flow_run["id"],
        "outer_id": "",
        "api": server,
        "pid": 1,
        "start_ticks": 1,
        "boot_id": "",
        "host": "here",
        "outcome": "completed",
    }
    place = tmp_path / "runs" / "called-failed" / "state" / "prefect.json"
    place.write_text(json.dumps(word))
    ended = _doctor(tmp_path / "runs", PREFECT_API_URL=server)
    assert ended.returncode == 0, ended.stderr
    assert _flow_state(server, "called-failed") == "Completed"
    assert not place.exists()


def test_a_server_that_goes_away_costs_a_warning(tmp_path: Path) -> None:
    port = free_port()
    lost = start_server(tmp_path / "home", port)
    api = f"http://127.0.0.1:{port}/api"
    run = None
    try:
        until(lambda: answers(f"{api}/health"), seconds=120)
        run = _start(tmp_path / "left", "hang", "6", PREFECT_API_URL=api)
        until(lambda: bool(list(tmp_path.glob("left/right-*/pids"))), seconds=60)
        os.killpg(lost.pid, signal.SIGKILL)
        output, errors = run.communicate(timeout=120)
    finally:
        for each in filter(None, (lost, run)):
            each.kill()
            each.communicate()
    assert run.returncode == 0, errors
    assert json.loads(output) == dict.fromkeys(STEPS, "done")
    lines = errors.splitlines()
    assert [line for line in lines if not line.startswith("prefect: warning: ")] == []
    assert lines[-1].endswith("; the run goes on without it")
    left = json.loads((tmp_path / "left" / "state" / "prefect.json").read_text())
    assert left["outcome"] == "completed"  # for the next start to tell the server


def test_a_failed_step_is_one_line_and_fails_the_flow(server: str, tmp_path: Path) -> None:
    ended = _run(tmp_path / "failed", "bad", PREFECT_API_URL=server)
    assert ended.returncode == 2
    assert ended.stderr == "error: right: row 3 of captions.json: no text; remove the row\n"
    assert list(tmp_path.glob("failed/left-*/DONE.json"))
    assert _flow_state(server, "failed") == "Failed"
    states = _task_states(server, "failed")
    assert states["right"] == "Failed"
    assert "last" not in states


def test_sigterm_ends_the_flow_and_its_children(server: str, tmp_path: Path) -> None:
    run = _start(tmp_path / "ended", "hang", PREFECT_API_URL=server)
    try:
        until(lambda: bool(list(tmp_path.glob("ended/right-*/pids"))), seconds=60)
        pids = next(tmp_path.glob("ended/right-*/pids")).read_text().split()
        assert all(is_alive(int(pid)) for pid in pids)
        run.terminate()
        run.communicate(timeout=30)
        assert run.returncode != 0
        assert not any(is_alive(int(pid)) for pid in pids)
    finally:
        run.kill()
        run.communicate()
    assert _flow_state(server, "ended") == "Crashed"


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/api", "no address"])
def test_a_server_that_does_not_answer_is_one_line(tmp_path: Path, address: str) -> None:
    ended = _run(tmp_path / "run", "write", PREFECT_API_URL=address)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: Prefect: Failed to reach API at ")
    assert ended.stderr.endswith("or add --no-prefect\n")
    assert ended.stderr.count("\n") == 1
    assert not list(tmp_path.glob("run/*/DONE.json"))


def test_a_home_that_has_a_database_keeps_it(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "prefect.db")) as mine:
        mine.execute("create table mine (number)")
    before = (tmp_path / "prefect.db").read_bytes()
    database.provide(tmp_path)
    assert (tmp_path / "prefect.db").read_bytes() == before


def test_a_damaged_database_goes_with_its_log(tmp_path: Path) -> None:
    (tmp_path / "prefect.db").write_bytes(b"no database")
    (tmp_path / "prefect.db-wal").write_bytes(b"of the old one")
    database.provide(tmp_path)
    assert not (tmp_path / "prefect.db-wal").exists()
    assert next(tmp_path.glob("*damaged*-wal")).read_bytes() == b"of the old one"
    assert not list(tmp_path.glob(f"*.{os.getpid()}"))


def test_a_damaged_database_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "prefect.db").write_bytes(bytes(range(256)) * 20)
    database.provide(tmp_path)
    kept = [path for path in tmp_path.iterdir() if "damaged" in path.name]
    assert [path.read_bytes() for path in kept] == [bytes(range(256)) * 20]
    if database.template().is_file():
        assert (tmp_path / "prefect.db").read_bytes() == database.template().read_bytes()


def test_an_embedded_server_that_cannot_start_costs_a_warning(tmp_path: Path) -> None:
    nowhere = f"sqlite+aiosqlite:///{tmp_path}/no folder/prefect.db"
    ended = _run(tmp_path / "run", "write", PREFECT_SERVER_DATABASE_CONNECTION_URL=nowhere)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == dict.fromkeys(STEPS, "done")
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("prefect: warning: the embedded server ends as soon as it starts; ")


def test_without_a_template_a_home_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "no environment"))
    database.provide(tmp_path / "home")
    assert not (tmp_path / "home").exists()


def _killed(folder: Path, server: str) -> None:
    """A run whose process is killed in the middle of a step."""
    run = _start(folder, "hang", PREFECT_API_URL=server)
    try:
        until(lambda: bool(list(folder.glob("right-*/pids"))), seconds=60)
        until(lambda: _running(server, folder.name), seconds=30)
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()


def _running(server: str, run: str) -> bool:
    """Whether the server knows that the step works; it learns so a moment later."""
    tasks = ask(server, "task_runs", _of(run))
    return {"right"} <= {each["name"] for each in tasks if each["state_name"] == "Running"}


def _doctor(runs: Path, **own: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [PYTHON, "-W", "ignore", "-m", "flows", "doctor", "--reap"],
        env=plain_environment(**own),
        cwd=runs.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )


def _of(run: str) -> dict[str, object]:
    return {"flow_runs": {"tags": {"all_": [f"run:{run}"]}}}


def _start(folder: Path, action: str, seconds: str = "60", **own: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [PYTHON, "-m", "tests.run_prefect_plan", str(folder), action, seconds],
        env=plain_environment(**own),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _run(
    folder: Path, action: str, seconds: str = "60", **own: str
) -> "subprocess.CompletedProcess[str]":
    run = _start(folder, action, seconds, **own)
    try:
        output, errors = run.communicate(timeout=200)
    except BaseException:
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        raise
    return subprocess.CompletedProcess(run.args, run.returncode, output, errors)


def _servers_of(pid: int) -> list[int]:
    """Children of a process that run uvicorn."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [
        int(each) for each in children if b"uvicorn" in Path("/proc", each, "cmdline").read_bytes()
    ]


def _flow_state(server: str, run: str) -> object:
    runs = ask(server, "flow_runs", _of(run))
    assert len(runs) == 1
    return runs[0]["state_name"]


def _task_states(server: str, run: str) -> dict[str, object]:
    """Task run name -> state; the server writes them down a moment after they end."""
    question = _of(run)
    ended = ("Completed", "Failed")

    def states() -> dict[str, object]:
        return {
            str(each["name"]): each["state_name"] for each in ask(server, "task_runs", question)
        }

    until(lambda: len(states()) >= 3 and all(state in ended for state in states().values()))
    return states()
