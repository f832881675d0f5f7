"""The table of faults: what it counts as survived, and its short selection, really injected."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.fault_cases import audit
from benchmarks.fault_cases.ground import Ground
from benchmarks.fault_cases.row import Fault, NotInjectedError, NotPossibleError, Row
from benchmarks.faults import faults, tried
from storage.artifacts import write_done
from tests.builders_flows import PYTHON, ROOT, python_environment

SURVIVED = Row(name="one", done="a kill", proof="seen", happened="exit 0", metrics=audit.EQUAL)


def test_a_row_needs_proof_equal_metrics_and_no_complaint() -> None:
    assert SURVIVED.is_survived
    assert not replace(SURVIVED, proof="").is_survived
    assert not replace(SURVIVED, metrics="vqa.accuracy 0.5 -> 0.4").is_survived
    assert not replace(SURVIVED, metrics="").is_survived
    assert not replace(SURVIVED, complaints=("process 7 still lives",)).is_survived


@pytest.mark.parametrize("error", [NotInjectedError("gone before"), ValueError("a slip")])
def test_a_fault_that_did_not_happen_is_not_survived(tmp_path: Path, error: Exception) -> None:
    (row,) = tried(Fault(name="one", inject=_raising(error)), Ground(tmp_path))
    assert not row.is_survived
    assert str(error) in row.happened


def test_what_a_machine_cannot_do_is_no_row(tmp_path: Path) -> None:
    with pytest.raises(NotPossibleError):
        list(tried(Fault(name="one", inject=_raising(NotPossibleError("x"))), Ground(tmp_path)))


def test_other_metrics_are_told_and_rounding_is_named() -> None:
    assert audit.compared({"a": 1.0}, {"a": 1.0}) == audit.EQUAL
    assert audit.compared({"a": 1.0}, {"a": 1.1}) == "a 1.1 -> 1.0"
    assert audit.compared({"a": 1.0}, {"a": 1.0001}, 0.01) == "equal within 0.01"
    assert audit.compared({"a": 1.0}, {}, 0.01) == "a None -> 1.0"


def test_lost_records_and_changed_bytes_are_seen(tmp_path: Path) -> None:
    folder = tmp_path / "count-0123456789ab"
    folder.mkdir()
    (folder / "rows").write_text("12345")
    write_done(folder, "0123", {"num_in": 5, "num_out": 3, "num_quarantined": 1})
    (tmp_path / "steps.json").write_text(f'{{"count": "{folder.name}"}}')
    (folder / "rows").write_text("12354")
    found = list(audit.complaints(tmp_path, None))
    assert found == [
        "count: rows is damaged",
        "count: in, out, quarantined do not add up: [5, 3, 1]",
    ]


def test_work_done_again_is_seen() -> None:
    before = {"one-0/DONE.json": 1, "two-0/DONE.json": 2}
    after = {"one-0/DONE.json": 1, "two-0/DONE.json": 3, "three-0/DONE.json": 4}
    assert audit.done_again(before, after) == ["two"]
    assert audit.worked_on(before, after) == ("two", "three")


def test_a_process_that_is_left_is_found() -> None:
    mark = f"OSCAR_FAULTS={ROOT}/nowhere"
    left = subprocess.Popen(
        [PYTHON, "-c", "import time; time.sleep(60)"], env={"OSCAR_FAULTS": f"{ROOT}/nowhere"}
    )
    try:
        (said,) = audit.left_alive(mark, patience_seconds=0.5)
        assert str(left.pid) in said
    finally:
        left.kill()
        left.wait()


def test_there_are_enough_faults_and_each_has_its_own_name() -> None:
    names = [fault.name for fault in faults()]
    assert len(set(names)) == len(names) >= 40


@pytest.mark.timeout(600)
def test_the_short_selection_survives(tmp_path: Path) -> None:
    ended = subprocess.run(
        [PYTHON, "-m", "benchmarks", "faults", "--short", "--keep", str(tmp_path)],
        cwd=ROOT,
        env=python_environment(),
        capture_output=True,
        text=True,
    )
    chosen = [fault for fault in faults() if fault.is_short]
    assert ended.returncode == 0, ended.stdout + ended.stderr
    expected = f"faults: {len(chosen)} tried, {len(chosen)} survived"
    assert ended.stdout.splitlines()[-1] == expected


def _raising(error: Exception):
    def inject(ground: Ground) -> Iterator[Row]:
        raise error
        yield

    return inject
