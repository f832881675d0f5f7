"""Steps set aside, so that they are done anew; and artifacts that later ones copy from."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

import tests.fake_stage
from flows.commands.resume import set_aside
from flows.errors import RunLockedError
from flows.identity import IDENTITY, PreparedStep
from flows.plan import Plan
from flows.run_folder import RunFolder, locked
from storage.artifacts import atomic_write_json, write_done
from tests.builders_flows import make_execution, make_step


def make_plan(words: Path) -> Plan:
    steps = (
        make_step("first"),
        make_step("second", takes="first", words=words),
        make_step("beside", takes="first"),
        make_step("third", takes="second"),
    )
    return Plan(steps)


def mark_done(folder: Path, plan: Plan) -> dict[str, Path]:
    """Folders of all steps as if they had been done; no process is started."""
    execution = make_execution(folder, plan.steps)
    for prepared in execution.prepared.values():
        prepared.folder.mkdir(exist_ok=True)
        atomic_write_json(prepared.folder / IDENTITY, dict(prepared.identity))
        write_done(prepared.folder, prepared.fingerprint, {})
    return {name: each.folder for name, each in execution.prepared.items()}


@pytest.fixture
def words(tmp_path: Path) -> Path:
    (tmp_path / "words").write_text("red")
    return tmp_path / "words"


def test_a_step_and_all_that_stand_on_it_are_set_aside(tmp_path: Path, words: Path) -> None:
    plan = make_plan(words)
    folders = mark_done(tmp_path / "run", plan)
    moved = set_aside(RunFolder(tmp_path / "run"), plan, "second")
    assert moved == [folders["second"].name, folders["third"].name]
    assert folders["first"].is_dir()
    assert folders["beside"].is_dir()
    [place] = (tmp_path / "run" / "discarded").iterdir()
    assert sorted(path.name for path in place.iterdir()) == sorted(moved)
    prepared = make_execution(tmp_path / "run", plan.steps).prepared
    assert [name for name in plan.names if not prepared[name].is_done] == ["second", "third"]


def test_setting_aside_twice_in_a_second_keeps_both(tmp_path: Path, words: Path) -> None:
    plan = Plan((make_step("first"),))
    for _ in range(2):
        mark_done(tmp_path / "run", plan)
        set_aside(RunFolder(tmp_path / "run"), plan, "first")
    assert len(list((tmp_path / "run" / "discarded").iterdir())) == 2


def test_nothing_is_set_aside_while_somebody_works(tmp_path: Path, words: Path) -> None:
    plan = make_plan(words)
    folders = mark_done(tmp_path / "run", plan)
    run = RunFolder(tmp_path / "run")
    with locked(run), pytest.raises(RunLockedError):
        set_aside(run, plan, "first")
    assert folders["first"].is_dir()


def test_attempts_at_it_are_forgotten(tmp_path: Path, words: Path) -> None:
    plan = make_plan(words)
    folders = mark_done(tmp_path / "run", plan)
    attempts = tmp_path / "run" / "attempts" / f"{folders['third'].name}.jsonl"
    attempts.parent.mkdir()
    attempts.write_text("{}\n")
    set_aside(RunFolder(tmp_path / "run"), plan, "third")
    assert not attempts.exists()
    assert len(list((tmp_path / "run" / "discarded").glob("*/*.jsonl"))) == 1


def test_reasons_compare_with_what_the_latest_start_had(tmp_path: Path) -> None:
    run = tmp_path / "run"
    plans = [Plan((make_step("first", text=text),)) for text in ("red", "blue", "green")]
    folders = [mark_done(run, plan)["first"].name for plan in plans[:2]]
    assert make_execution(run, plans[2].steps).prepared["first"].why == (
        'config.text "blue" -> "green"'
    )
    (run / "steps.json").write_text(json.dumps({"first": folders[0]}))
    assert make_execution(run, plans[2].steps).prepared["first"].why == (
        'config.text "red" -> "green"'
    )


def test_a_folder_that_is_not_what_its_mark_says_is_damaged(tmp_path: Path) -> None:
    plan = Plan((make_step("first"),))
    folder = mark_done(tmp_path / "run", plan)["first"]
    (folder / IDENTITY).write_text("{")
    assert (
        make_execution(tmp_path / "run", plan.steps).prepared["first"].why.startswith("was damaged")
    )


def prepared_second(folder: Path, plan: Plan) -> PreparedStep:
    return make_execution(folder, plan.steps).prepared["second"]


def test_a_stage_that_reuses_gets_its_newest_finished_artifact(
    tmp_path: Path, words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(words)
    plain = replace(plan.step("second"), inputs={})
    plan = Plan((plan.step("first"), plain))
    run = tmp_path / "run"
    made = []
    for at, text in enumerate(("red", "blue")):
        words.write_text(text)
        made.append(mark_done(run, plan)["second"])
        os.utime(made[-1] / "DONE.json", (1e9 + at, 1e9 + at))
    words.write_text("green")
    assert "text" not in prepared_second(run, plan).inputs
    mark = prepared_second(run, plan).fingerprint
    monkeypatch.setattr(tests.fake_stage, "REUSES", "text", raising=False)
    again = prepared_second(run, plan)
    assert again.inputs["text"] == made[1]
    assert again.fingerprint == mark
    (made[1] / "DONE.json").unlink()
    assert prepared_second(run, plan).inputs["text"] == made[0]
    changed = Plan((plan.step("first"), replace(plain, config=replace(plain.config, text="x"))))
    assert "text" not in prepared_second(run, changed).inputs
    monkeypatch.setattr(tests.fake_stage, "VERSION", 2)
    assert "text" not in prepared_second(run, plan).inputs


def test_anew_means_without_the_earlier_artifacts_too(
    tmp_path: Path, words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tests.fake_stage, "REUSES", "text", raising=False)
    plan = Plan((replace(make_plan(words).step("second"), inputs={}),))
    mark_done(tmp_path / "run", plan)
    words.write_text("blue")
    mark_done(tmp_path / "run", plan)
    assert len(set_aside(RunFolder(tmp_path / "run"), plan, "second")) == 2
