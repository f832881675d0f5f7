"""One step in its child process: done-marks, retries, exit statuses, limits."""

import json
import threading
import time
from pathlib import Path

import pytest

from flows.attempts import read_attempts
from flows.errors import CancelledError, StageFailedError
from flows.identity import IDENTITY
from flows.limits import StageLimits
from flows.runner import ALREADY_DONE, MOST_RETRY_SECONDS, Effort, StepEvent
from flows.schedule import Resources
from storage.artifacts import read_done
from tests import fake_stage
from tests.builders_flows import Watched, is_alive, make_execution, make_step, python_environment


@pytest.fixture(autouse=True)
def _importable_by_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", python_environment()["PYTHONPATH"])


def test_a_step_runs_in_a_child_and_marks_its_folder_last(tmp_path: Path) -> None:
    execution = make_execution(tmp_path, [make_step("one")])
    result = execution.run_step("one")
    folder = execution.prepared["one"].folder
    assert result.state == "done"
    assert folder.name == f"one-{execution.prepared['one'].fingerprint[:12]}"
    assert (folder / "text").read_text() == "made by batches of 8\n"
    done = read_done(folder)
    assert done is not None
    assert done.summary["num_out"] == 1
    assert done.summary["peak_bytes"] > 10_000_000
    assert json.loads((folder / IDENTITY).read_text())["config"]["action"] == "write"


def test_a_finished_step_starts_nothing(tmp_path: Path) -> None:
    make_execution(tmp_path, [make_step("one")]).run_step("one")
    watched = Watched()
    again = make_execution(tmp_path, [make_step("one")], tell=watched)
    before = (again.prepared["one"].folder / "text").stat().st_mtime_ns
    assert again.prepared["one"].is_done
    assert again.run_step("one").state == ALREADY_DONE
    assert watched.kinds("one") == [ALREADY_DONE]
    assert (again.prepared["one"].folder / "text").stat().st_mtime_ns == before


def test_what_libraries_print_goes_to_the_log(tmp_path: Path) -> None:
    execution = make_execution(tmp_path, [make_step("one")])
    execution.run_step("one")
    log = execution.run.log("one", execution.prepared["one"].fingerprint).read_text()
    assert "a library chats" in [json.loads(line)["message"] for line in log.splitlines()]


def test_a_temporary_failure_is_tried_again(tmp_path: Path) -> None:
    watched = Watched()
    execution = make_execution(tmp_path, [make_step("one", action="full", times=2)], tell=watched)
    assert execution.run_step("one").state == "done"
    assert watched.kinds("one") == ["started", "retry", "started", "retry", "started", "done"]
    assert (execution.prepared["one"].folder / "attempts").read_text() == "3"


def test_between_two_tries_the_state_says_so(tmp_path: Path) -> None:
    states = []

    def tell(event: StepEvent) -> None:
        if event.kind == "retry":
            states.append(execution.run.read_state("one"))

    execution = make_execution(tmp_path, [make_step("one", action="full")], tell=tell)
    execution.run_step("one")
    (state,) = states
    assert state is not None
    assert (state.state, state.message[-12:]) == ("retrying", "again in 0 s")


def test_a_failure_that_stays_ends_in_one_line(tmp_path: Path) -> None:
    execution = make_execution(tmp_path, [make_step("one", action="full", times=9)])
    with pytest.raises(StageFailedError, match=r"^one: .*no space left to write .*make room") as it:
        execution.run_step("one")
    assert it.value.status == 75
    assert "\n" not in str(it.value)
    assert (execution.prepared["one"].folder / "attempts").read_text() == "3"


@pytest.mark.parametrize(
    ("action", "status", "line"),
    [
        ("bad", 65, "one: row 3 of captions.json: no text; remove the row"),
        ("crash", 1, "one: ValueError: not our fault (log: "),
    ],
)
def test_a_fatal_failure_is_not_tried_again(
    tmp_path: Path, action: str, status: int, line: str
) -> None:
    watched = Watched()
    execution = make_execution(tmp_path, [make_step("one", action=action)], tell=watched)
    with pytest.raises(StageFailedError) as caught:
        execution.run_step("one")
    assert caught.value.status == status
    assert str(caught.value).startswith(line)
    assert watched.kinds("one") == ["started", "failed"]
    state = execution.run.read_state("one")
    assert state is not None
    assert state.state == "failed"
    assert str(caught.value) == f"one: {state.message}"


def test_a_killed_child_tries_again_as_it_was(tmp_path: Path) -> None:
    execution = make_execution(tmp_path, [make_step("one", action="die")])
    execution.run_step("one")
    assert "by batches of 8" in (execution.prepared["one"].folder / "text").read_text()


def test_a_child_killed_again_tries_with_a_smaller_batch(tmp_path: Path) -> None:
    execution = make_execution(tmp_path, [make_step("one", action="die", times=2)])
    execution.run_step("one")
    assert "by batches of 4" in (execution.prepared["one"].folder / "text").read_text()


def test_a_child_killed_too_often_is_given_up(tmp_path: Path) -> None:
    execution = make_execution(tmp_path, [make_step("one", action="die", times=5)])
    with pytest.raises(StageFailedError, match=r"killed by somebody .*; 3 times in a row"):
        execution.run_step("one")
    assert (execution.prepared["one"].folder / "attempts").read_text() == "3"


def test_want_of_memory_halves_the_batch_and_is_written_down(tmp_path: Path) -> None:
    watched = Watched()
    execution = make_execution(tmp_path, [make_step("one", action="memory", times=2)], tell=watched)
    result = execution.run_step("one")
    assert "by batches of 2" in (execution.prepared["one"].folder / "text").read_text()
    assert result.summary["halvings"] == 2
    assert "out of memory (cannot have 8 GB)" in watched.messages("retry")[0]
    assert "again with half the batch" in watched.messages("retry")[0]


def test_a_stage_that_cannot_shrink_is_tried_again_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(fake_stage, "SHRINKABLE")  # seen by the parent
    watched = Watched()
    execution = make_execution(tmp_path, [make_step("one", action="memory")], tell=watched)
    assert execution.run_step("one").summary["halvings"] == 0
    assert "half" not in watched.messages("retry")[0]


def test_a_batch_of_one_is_tried_again_as_it_was(tmp_path: Path) -> None:
    watched = Watched()
    step = make_step("one", action="memory", times=2, batch_size=2)
    result = make_execution(tmp_path, [step], tell=watched).run_step("one")
    assert result.summary["halvings"] == 1
    assert ["half" in told for told in watched.messages("retry")] == [True, False]


def test_the_next_start_begins_with_the_batch_that_sufficed(tmp_path: Path) -> None:
    step = make_step("one", action="memory", limits=StageLimits(retries=0))
    with pytest.raises(StageFailedError, match="one: out of memory") as caught:
        make_execution(tmp_path, [step]).run_step("one")
    assert caught.value.status == 137
    result = make_execution(tmp_path, [step]).run_step("one")
    assert result.summary["halvings"] == 1


@pytest.mark.parametrize("action", ["lost", "preempted"])
def test_a_lost_or_preempted_child_is_tried_again_as_it_was(tmp_path: Path, action: str) -> None:
    execution = make_execution(tmp_path, [make_step("one", action=action)])
    assert execution.run_step("one").summary["halvings"] == 0
    outcomes = [each.outcome for each in read_attempts(execution.run)]
    assert outcomes == [action, "done"]


def test_a_stage_that_asks_ends_its_step_when_told_to_end(tmp_path: Path) -> None:
    execution = make_execution(tmp_path, [make_step("one", action="heed", times=0)])
    execution.run_step("one")
    assert [each.outcome for each in read_attempts(execution.run)] == ["preempted", "done"]
    folder = execution.prepared["one"].folder
    made = {path.name for path in folder.glob("made-*")}
    assert made == {f"made-{number}-by-{1 if number <= 10 else 2}" for number in range(20)}


def test_failures_count_only_while_the_step_comes_no_further(tmp_path: Path) -> None:
    limits = StageLimits(retries=1)
    step = make_step("one", action="count and die", seconds=0.0, times=0, limits=limits)
    execution = make_execution(tmp_path, [step])
    execution.run_step("one")
    tries = read_attempts(execution.run)
    assert [each.outcome for each in tries] == ["killed", "killed", "killed", "done"]
    assert [each.resumed for each in tries] == [False, True, True, True]


def test_a_stage_has_its_own_number_of_retries(tmp_path: Path) -> None:
    step = make_step("one", action="full", times=9, limits=StageLimits(retries=0))
    execution = make_execution(tmp_path, [step])
    with pytest.raises(StageFailedError):
        execution.run_step("one")
    assert (execution.prepared["one"].folder / "attempts").read_text() == "1"


def test_waits_double_up_to_a_bound_with_a_jitter_of_a_half() -> None:
    effort = Effort(retry_seconds=2.0)
    for failures, middle in ((1, 2.0), (2, 4.0), (3, 8.0), (100, MOST_RETRY_SECONDS)):
        delays = {effort.delay(failures) for _ in range(20)}
        assert all(0.5 * middle <= delay <= 1.5 * middle for delay in delays)
        assert len(delays) > 1


def test_signs_of_life_do_not_cut_what_is_printed_in_pieces(tmp_path: Path) -> None:
    execution = make_execution(tmp_path, [make_step("one", action="stammer", times=0)])
    execution.run_step("one")
    log = execution.run.log("one", execution.prepared["one"].fingerprint).read_text()
    assert "half a line and the rest" in [json.loads(line)["message"] for line in log.splitlines()]


def test_a_watcher_that_fails_stops_no_step(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def tell(event: StepEvent) -> None:
        if event.message == "a library chats":
            raise ConnectionError("the watcher's server is gone")

    assert make_execution(tmp_path, [make_step("one")], tell=tell).run_step("one").state == "done"
    assert "could not be told: a library chats" in caplog.text


def test_a_request_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    execution = make_execution(tmp_path, [make_step("one")])
    request = execution.run.request("one")
    request.mkdir()  # as good as any other refusal of the disk
    with pytest.raises(StageFailedError, match=r"^one: .*one.request.json.*: Is a directory$"):
        execution.run_step("one")


def test_log_lines_of_the_child_are_told(tmp_path: Path) -> None:
    watched = Watched()
    make_execution(tmp_path, [make_step("one")], tell=watched).run_step("one")
    assert ("INFO", "a library chats") in [(each.level, each.message) for each in watched.logs]


def test_a_segmentation_fault_tries_once_more_with_the_same_batch(tmp_path: Path) -> None:
    execution = make_execution(tmp_path, [make_step("one", action="segfault")])
    execution.run_step("one")
    assert "by batches of 8" in (execution.prepared["one"].folder / "text").read_text()


def test_a_hung_child_is_killed_at_its_limit_with_all_it_started(tmp_path: Path) -> None:
    execution = make_execution(tmp_path, [make_step("one", action="hang", limit=2.0)])
    started = time.monotonic()
    with pytest.raises(StageFailedError, match="one: killed at its time limit of 2 s") as caught:
        execution.run_step("one")
    assert time.monotonic() - started < 12
    assert caught.value.status is None
    pids = (execution.prepared["one"].folder / "pids").read_text().split()
    assert len(pids) == 2
    assert not any(is_alive(int(pid)) for pid in pids)


def test_a_stopped_step_leaves_no_process(tmp_path: Path) -> None:
    execution = make_execution(tmp_path, [make_step("one", action="hang")])
    pids = execution.prepared["one"].folder / "pids"
    stopper = threading.Thread(target=lambda: (_wait(pids), execution.stop.set()))
    stopper.start()
    with pytest.raises(CancelledError):
        execution.run_step("one")
    stopper.join()
    assert not any(is_alive(int(pid)) for pid in pids.read_text().split())


def test_a_step_alone_gets_all_threads(tmp_path: Path) -> None:
    steps = [make_step("one"), make_step("two", takes="one"), make_step("three", takes="one")]
    execution = make_execution(tmp_path, steps, resources=Resources(parallel=2, threads=2))
    for name in ("one", "two"):
        execution.run_step(name)
    threads = {name: execution.prepared[name].folder / "threads" for name in ("one", "two")}
    assert {name: path.read_text() for name, path in threads.items()} == {"one": "2", "two": "1"}


def _wait(path: Path) -> None:
    while not path.exists():
        time.sleep(0.02)
