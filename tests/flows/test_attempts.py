"""What the run folder remembers of every try."""

from dataclasses import replace
from pathlib import Path

from flows.attempts import Attempt, add_attempt, attempts_at, read_attempts
from flows.process import boot_id
from flows.run_folder import RETRYING, RUNNING, RunFolder, StepState, locked
from tests.builders_flows import make_execution, make_step, python_environment

FIRST = Attempt(
    step="one", fingerprint="a" * 64, number=1, began="2026-01-01T00:00:00Z", seconds=1.5,
    outcome="killed", status=-9, message="killed by somebody",
)  # fmt: skip


def test_attempts_come_back_oldest_first(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    later = replace(FIRST, number=2, began="2026-01-01T00:01:00Z", outcome="done", status=0)
    between = replace(FIRST, step="two", began="2026-01-01T00:00:30Z")
    for attempt in (FIRST, later, between):
        add_attempt(run, attempt)
    assert read_attempts(run) == [FIRST, between, later]
    assert attempts_at(run, "one", FIRST.fingerprint) == [FIRST, later]
    assert attempts_at(run, "one", "b" * 64) == []


def test_a_line_cut_by_a_full_disk_is_left_out(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    add_attempt(run, FIRST)
    path = next((tmp_path / "attempts").iterdir())
    path.write_text(path.read_text() + path.read_text()[:40])
    assert read_attempts(run) == [FIRST]


def test_numbers_go_on_over_several_starts(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", python_environment()["PYTHONPATH"])
    execution = make_execution(tmp_path, [make_step("one")])
    add_attempt(execution.run, replace(FIRST, fingerprint=execution.prepared["one"].fingerprint))
    execution.run_step("one")
    assert [each.number for each in read_attempts(execution.run)] == [1, 2]
    state = execution.run.read_state("one")
    assert state is not None
    assert state.attempt == 2


def test_an_attempt_whose_parent_died_is_written_by_the_next_start(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    state = StepState(
        step="one", folder="one-a", fingerprint="a" * 64, state=RUNNING, attempt=3, started_at="",
        updated_at="", seconds=7.5, boot_id=boot_id(), host="elsewhere", seconds_before=2.0,
        halvings=1,
    )  # fmt: skip
    (tmp_path / "state").mkdir()
    run.write_state(state)
    run.write_state(replace(state, step="two", state=RETRYING))  # its attempt is written already
    with locked(run):
        pass
    with locked(run):
        pass  # only once
    (found,) = read_attempts(run)
    assert (found.number, found.outcome, found.status) == (3, "parent gone", None)
    assert (found.seconds, found.halvings) == (5.5, 1)
    assert {each.state for each in run.states()} == {"stopped"}
