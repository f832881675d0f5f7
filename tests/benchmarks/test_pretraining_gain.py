"""What is compared when pretraining is measured, and what is computed from it."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.pretraining_gain import (
    ARMS,
    LONGER,
    NEW,
    PRETRAINED,
    Measured,
    figures_of,
    gain_plan,
    gains,
    table,
    take_over,
)
from flows.config import read_config
from flows.plan import Plan
from flows.schedule import run_plan
from tests.builders_flows import make_execution, make_step

DEMO = Path("demo.yaml")


def measured(values: dict[str, list[float]]) -> list[Measured]:
    return [
        Measured(seed=seed, arm=arm, metric="retrieval.t2i.r1", value=value, num_images=9)
        for arm, found in values.items()
        for seed, value in enumerate(found, start=1)
    ]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return gain_plan(read_config(DEMO), [1, 2], ARMS)


def test_photos_are_looked_at_once_and_every_seed_pretrains_once(plan: Plan) -> None:
    stages = [step.stage for step in plan.steps]
    assert [stages.count(name) for name in ("train_detector", "detect", "translate_tags")] == [
        1
    ] * 3
    assert [name for name in plan.names if name.endswith("-pretrain")] == [
        "seed1-pretrain",
        "seed2-pretrain",
    ]
    assert stages.count("score") == 2 * len(ARMS) * 2
    assert not any("vqa" in name for name in plan.names)


def test_arms_differ_in_where_they_start_and_how_long_they_learn(plan: Plan) -> None:
    tasks = read_config(DEMO).tasks
    for task in ("captioning", "retrieval"):
        by_arm = {arm: plan.step(f"seed2-{arm}-{task}_train") for arm in ARMS}
        assert by_arm[PRETRAINED].inputs["start"] == "seed2-pretrain.model"
        assert "start" not in by_arm[NEW].inputs
        assert "start" not in by_arm[LONGER].inputs
        steps = {arm: step.config.training.steps for arm, step in by_arm.items()}
        own = tasks[task].training.steps
        assert steps == {PRETRAINED: own, NEW: own, LONGER: own + 900}
        assert {step.config.training.seed for step in by_arm.values()} == {2}


def test_a_branch_reads_its_own_predictions(plan: Plan) -> None:
    step = plan.step("seed1-new-retrieval_score")
    assert step.inputs["predictions"] == "seed1-new-retrieval_predict.predictions"
    assert step.inputs["truth"] == "render_scenes.scenes/truth.json"


def test_gains_are_taken_seed_by_seed() -> None:
    found = measured({PRETRAINED: [0.5, 0.9], NEW: [0.25, 0.4]})
    assert gains(found, "retrieval.t2i.r1", NEW) == pytest.approx([0.25, 0.5])
    by_name = {figure.name: figure for figure in figures_of("demo", found)}
    gain = by_name["pretraining_gain.demo.retrieval.t2i.r1.gain"]
    assert (gain.value, gain.n) == (pytest.approx(0.375), 2)
    assert gain.spread == pytest.approx(0.25)
    assert by_name["pretraining_gain.demo.retrieval.t2i.r1.new"].value == pytest.approx(0.325)
    (line,) = [line for line in table("demo", found) if line.startswith("retrieval")]
    assert line.split()[1:] == ["9", "0.700", "(0.400)", "0.325", "(0.150)", "0.375", "(0.250)"]


def test_without_the_pretrained_arm_there_is_no_gain() -> None:
    names = [figure.name for figure in figures_of("demo", measured({NEW: [0.1]}))]
    assert names == ["pretraining_gain.demo.retrieval.t2i.r1.new"]


def test_the_very_same_work_is_taken_over_and_no_other(tmp_path: Path) -> None:
    steps = [make_step("one"), make_step("two", takes="one")]
    run_plan(make_execution(tmp_path / "earlier", steps))
    other = [steps[0], replace(steps[1], config=replace(steps[1].config, text="other"))]
    taken = take_over(Plan(tuple(other)), tmp_path / "later", tmp_path / "earlier")
    assert taken == ["one"]
    events = make_execution(tmp_path / "later", other)
    assert {name: each.is_done for name, each in events.prepared.items()} == {
        "one": True,
        "two": False,
    }
