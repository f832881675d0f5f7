"""What Prefect's pages show of a run: losses, seen photos, captions, metrics."""

import base64
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flows.history import record
from flows.identity import PreparedStep
from flows.orchestration.artifact import Artifact, key_of
from flows.orchestration.artifacts import metric_rows, of_run, of_step
from flows.orchestration.labels import run_name, run_tags
from flows.orchestration.pictures import MAX_BYTES, draw_losses
from flows.orchestration.prefect_flow import shown_needs
from flows.plan import Plan, Step
from flows.report.metrics_file import write_metrics
from flows.report.records import Curve, LossChart
from flows.run_folder import RunFolder
from flows.schedule import Execution, Resources
from storage.artifacts import read_done
from tests.builders_flows import make_execution, make_step
from tests.builders_report import MadeRun, make_run

STAGES = {"predict": "predict", "score": "score"}
"""End of a step's name -> its stage; of others the whole name."""
PICTURE = re.compile(r"data:image/(\w+);base64,([A-Za-z0-9+/=]+)")


@pytest.fixture(scope="module")
def execution(tmp_path_factory: pytest.TempPathFactory) -> Execution:
    """A finished run of rendered scenes."""
    return _execution(make_run(tmp_path_factory.mktemp("shown")))


def test_a_training_shows_its_curves_and_their_last_values(execution: Execution) -> None:
    (shown,) = of_step(execution, "pretrain")
    assert shown.key == "losses-pretrain"
    assert shown.kind == "markdown"
    (picture,) = _pictures(shown)
    assert len(picture.getcolors(1 << 16) or []) > 8
    rows = [line for line in str(shown.content).splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows] == [
        "| loss",
        "| total",
        "| masked_words",
        "| contrast",
        "| regions",
    ]


def test_translated_tags_show_photos_with_boxes(execution: Execution) -> None:
    (shown,) = of_step(execution, "translate_tags")
    pictures = _pictures(shown)
    assert len(pictures) == 4
    assert all(picture.format == "JPEG" for picture in pictures)
    assert len(str(shown.content)) < 4 * MAX_BYTES * 1.4


def test_captions_stand_beside_their_photos(execution: Execution) -> None:
    (shown,) = of_step(execution, "captioning_predict")
    assert shown.key == "captions-captioning-predict"
    assert len(_pictures(shown)) == 4
    said = re.findall(r"- the model: (.+)\n- people: (.+)", str(shown.content))
    assert len(said) == 4
    assert all(re.search("[\u4e00-\u9fff]", text) for pair in said for text in pair)


@pytest.mark.parametrize("step", ["retrieval_predict", "vqa_score", "list_images", "detect"])
def test_other_steps_show_nothing(execution: Execution, step: str) -> None:
    assert list(of_step(execution, step)) == []


def test_of_too_many_photos_none_is_shown(
    execution: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.orchestration.artifacts.MAX_PHOTOS", 13)
    assert list(of_step(execution, "translate_tags")) == []


def test_metrics_stand_beside_those_of_the_run_before(tmp_path: Path) -> None:
    run = make_execution(tmp_path, [make_step("report")])
    place = run.prepared["report"].folder
    place.mkdir(exist_ok=True)
    write_metrics(place / "metrics.json", {"accuracy": 0.75, "new": 1.0}, {})
    record(run.run, "seed: 1", {"report": "report-older"}, {"accuracy": 0.5, "gone": 2.0})
    metrics, report = of_run(run, "/reports/demo")
    assert metrics.kind == "table"
    assert json.loads(str(metrics.content)) == [
        {
            "metric": "accuracy",
            "this run": "0.7500",
            "run before": "0.5000",
            "change": "+0.2500",
        },
        {"metric": "new", "this run": "1.0000", "run before": "", "change": ""},
        {"metric": "gone", "this run": "", "run before": "2.0000", "change": ""},
    ]
    assert "(/reports/demo)" in str(report.content)


def test_a_metric_that_stayed_is_called_the_same() -> None:
    (row,) = metric_rows({"a": 0.5}, {"a": 0.500004})
    assert row["change"] == "same"


def test_keys_are_as_prefect_wants_them() -> None:
    assert key_of("losses", "vqa_train") == "losses-vqa-train"
    assert key_of("losses", "Captioning.zh_train") == "losses-captioning-zh-train"


@pytest.mark.parametrize("values", [(0.0,), (1.0, 1.0), (3.0, 1e9, 2.0), (-1.0, 0.5)])
def test_odd_curves_can_be_drawn(values: tuple[float, ...]) -> None:
    curve = Curve(name="total", steps=tuple(range(1, len(values) + 1)), values=values)
    chart = LossChart(step="train", title="Train", curves=(curve,))
    (picture,) = _decoded(draw_losses(chart))
    assert picture.size == (760, 340)


def test_a_run_is_named_by_its_folder_and_what_is_left(tmp_path: Path) -> None:
    steps = [make_step("first"), make_step("last", takes="first")]
    run = make_execution(tmp_path / "demo", steps)
    assert run_name(run, "demo") == "demo, 2 steps"
    assert run_tags(run, "demo")[:2] == ("oscar-flow", "run:demo")
    (tmp_path / "demo" / "config.yaml").write_text("seed: 7\n")
    (tmp_path / "demo" / "dataset.json").write_text('{"total": "0123456789abcdef"}')
    assert run_tags(run, "demo")[3:] == ("seed:7", "data:01234567")


def test_arrows_leave_out_what_follows_from_others() -> None:
    steps = (
        make_step("first"),
        make_step("left", takes="first"),
        Step(
            name="last",
            stage="tests.fake_stage",
            config=make_step("x").config,
            inputs={"more:a": "first.text", "more:b": "left.text"},
        ),
    )
    assert shown_needs(Plan(steps), "last") == ["left"]
    assert shown_needs(Plan(steps), "left") == ["first"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _NoSettings:
    """A config that nothing reads."""


def _execution(made: MadeRun) -> Execution:
    """The made run as the flow holds it."""
    steps, prepared = [], {}
    for name, folder in made.steps.items():
        stage = STAGES.get(name.rpartition("_")[2], name)
        step = Step(name=name, stage=stage, config=_NoSettings())
        steps.append(step)
        prepared[name] = PreparedStep(
            step=step,
            fingerprint="f" * 64,
            folder=folder,
            inputs={"photos": made.photos},
            outputs={"images": folder / "images"},
            identity={},
            done=read_done(folder),
            reasons=(),
        )
    return Execution(
        plan=Plan(tuple(steps)),
        prepared=prepared,
        run=RunFolder(made.folder),
        resources=Resources(),
        tell=_ignore,
    )


def _ignore(event: Any) -> None:
    """Nobody watches."""


def _pictures(shown: Artifact) -> list[Image.Image]:
    return _decoded(str(shown.content))


def _decoded(text: str) -> list[Image.Image]:
    found = PICTURE.findall(text)
    return [Image.open(io.BytesIO(base64.b64decode(content))) for _, content in found]
