"""The plain loop over a plan."""

from dataclasses import replace
from pathlib import Path

import pytest

from flows.errors import StageFailedError
from flows.plan import Step
from flows.schedule import Resources, run_plan
from tests.builders_flows import Watched, make_execution, make_step, python_environment


@pytest.fixture(autouse=True)
def _importable_by_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", python_environment()["PYTHONPATH"])


def test_outputs_travel_along_the_plan(tmp_path: Path) -> None:
    last = replace(make_step("last"), inputs={"more:a": "left.text", "more:b": "right.text"})
    steps = [
        make_step("first", text="1"),
        make_step("left", takes="first", text="2"),
        make_step("right", takes="first", text="3"),
        last,
    ]
    execution = make_execution(tmp_path, steps)
    results = run_plan(execution)
    assert set(results) == {"first", "left", "right", "last"}
    lines = (execution.prepared["last"].folder / "text").read_text().splitlines()
    assert [line[:1] for line in lines] == ["1", "2", "1", "3", "m"]


def test_branches_run_side_by_side(tmp_path: Path) -> None:
    watched = Watched()
    steps: list[Step] = [make_step(name, action="count", seconds=0.5) for name in "ab"]
    run_plan(make_execution(tmp_path, steps, tell=watched))
    first_end = next(at for at, event in enumerate(watched.events) if event.kind == "done")
    started = {event.step for event in watched.events[:first_end] if event.kind == "started"}
    assert started == {"a", "b"}


def test_parallel_one_means_one_after_the_other(tmp_path: Path) -> None:
    watched = Watched()
    resources = Resources(parallel=1, threads=2)
    steps = [make_step("a"), make_step("b")]
    run_plan(make_execution(tmp_path, steps, resources=resources, tell=watched))
    kinds = [event.kind for event in watched.events]
    assert kinds == ["started", "done", "started", "done"]


def test_a_failure_stops_only_what_stands_on_it(tmp_path: Path) -> None:
    watched = Watched()
    steps = [
        make_step("bad", action="bad"),
        make_step("other"),
        make_step("after_bad", takes="bad"),
        make_step("after_other", takes="other"),
    ]
    with pytest.raises(StageFailedError, match="bad: row 3"):
        run_plan(make_execution(tmp_path, steps, tell=watched))
    assert watched.kinds("after_other") == ["started", "done"]
    assert watched.kinds("after_bad") == []
