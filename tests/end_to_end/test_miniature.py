"""The demo in tiny sizes through the command line: whole, again, killed and resumed."""

import fcntl
import json
import os
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.command_line import Said, oscar_child
from tests.end_to_end.miniature import (
    CONFIG_NAME,
    TASKS,
    finish,
    folder_of,
    kill_in,
    metrics_of,
    start,
    times_of,
    write_config,
)

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(600)]
PLAIN = "--no-prefect"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    config: Path
    out: Path
    printed: str


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An unbroken run under Prefect, as users start it; one for all test processes.

    The first of them makes it, the others wait.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    out, printed = folder / "miniature", folder / "miniature.txt"
    with open(folder / "miniature.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not printed.is_file():
            printed.write_text(finish(start(write_config(folder), out)))
    config = folder / CONFIG_NAME
    return Run(config=config, out=out, printed=printed.read_text())


def test_every_stage_ends_in_metrics_with_controls_and_a_report(whole: Run) -> None:
    metrics = metrics_of(whole.out)
    for name in (
        "detector.ap50",
        "detector.colour_accuracy",
        "captioning.zh.cider",
        "captioning.zh.colour_precision",
        "retrieval.t2i.r1",
        "retrieval.i2t.r1",
        "vqa.accuracy",
        "vqa.majority",
    ):
        assert isinstance(metrics[name], int | float)
    for name in ("captioning.zh.cider", "retrieval.t2i.r1", "vqa.accuracy"):
        assert {f"{name}_shuffled", f"{name}_features_shuffled"} <= set(metrics)
    assert {"segmenter", "java"} <= set(metrics["_versions"])
    assert (whole.out / "report.html").read_text().startswith("<!doctype html>")
    assert str(whole.out / "report.html") in whole.printed
    assert "vqa.accuracy" in whole.printed


def test_in_equals_out_and_quarantined_in_every_step(whole: Run) -> None:
    counted = 0
    for mark in whole.out.glob("*/DONE.json"):
        summary = json.loads(mark.read_text())["summary"]
        if "num_in" in summary:
            counted += 1
            assert summary["num_in"] == summary["num_out"] + summary["num_quarantined"]
    assert counted >= 15


def test_again_it_does_nothing_and_says_so(whole: Run) -> None:
    before = times_of(whole.out)
    started = time.monotonic()
    said = oscar_child(["run", str(whole.config), "--out", str(whole.out)])
    assert time.monotonic() - started < 10  # Prefect is not even started
    assert said.status == 0
    steps = json.loads((whole.out / "steps.json").read_text())
    assert said.out.count("already done  [") == len(steps)
    assert "nothing to do: every step is already done" in said.out
    assert times_of(whole.out) == before


def test_a_task_with_other_settings_runs_alone(whole: Run) -> None:
    said = oscar_child(
        [
            "plan",
            str(whole.config),
            "--out",
            str(whole.out),
            "--set",
            "tasks.vqa.training.learning_rate=0.1",
        ]
    )
    would = {line.split()[0] for line in said.out.splitlines() if " yes " in line}
    assert would == {"vqa_train", "vqa_predict", "vqa_score", "report"}
    assert "tasks" not in said.err


def test_status_and_report_know_the_run(whole: Run) -> None:
    assert oscar_child(["status", str(whole.out)]).out.count(" done ") >= 15
    before = times_of(whole.out)
    assert str(whole.out / "report.html") in oscar_child(["report", str(whole.out)]).out
    assert times_of(whole.out) == before


def test_the_models_of_a_run_look_at_photos(whole: Run, tmp_path: Path) -> None:
    photo = next(whole.out.glob("render_scenes-*/scenes/images/test/*.jpg"))
    drawn = tmp_path / "drawn.png"
    run = ["--run", str(whole.out)]
    seen = oscar_child(["detect", str(photo), *run, "--save", str(drawn)])
    assert seen.status == 0, seen.err
    assert drawn.stat().st_size > 10_000
    said = oscar_child(["caption", str(photo), *run])
    assert said.status == 0, said.err
    assert "(probability of a word " in said.out


def test_own_photos_become_features_tags_and_captions(whole: Run, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for photo in list(whole.out.glob("render_scenes-*/scenes/images/test/*.jpg"))[:3]:
        (photos / photo.name).write_bytes(photo.read_bytes())
    (photos / "broken.jpg").write_bytes(b"no photo")
    mine = tmp_path / "mine"
    said = _described(whole, photos, mine)
    rows = [json.loads(line) for line in (mine / "captions.jsonl").read_text().splitlines()]
    assert len(rows) == 3
    assert set(rows[0]) == {"image_id", "caption", "probability", "tags"}
    assert "1 photo left out" in said.out
    assert "rows      3 in 1 shards" in oscar_child(["shard", str(mine / "regions")]).out
    before = times_of(mine)
    assert _described(whole, photos, mine).out.count("already done") == 4
    assert times_of(mine) == before
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.add(photos, ".")
    _described(whole, tmp_path / "photos.tar", tmp_path / "packed")
    packed = (tmp_path / "packed" / "captions.jsonl").read_text()
    assert sorted(packed.splitlines()) == sorted((mine / "captions.jsonl").read_text().splitlines())


@pytest.mark.slow
def test_regions_that_are_imported_are_learned_from_without_photos(
    whole: Run, tmp_path: Path
) -> None:
    """Exported as VinVL's tables and imported again: the same model, the same answers."""
    (scenes,) = whole.out.glob("render_scenes-*/scenes")
    (detector,) = whole.out.glob("train_detector-*/detector")
    tables, stored, out = tmp_path / "tables", tmp_path / "stored", tmp_path / "run"
    named = ["--labelmap", str(detector / "labelmap.json"), "--namespace", "scenes"]
    for command in (
        ["export-regions", str(whole.out), str(tables)],
        ["import-regions", str(tables), str(stored), *named, "--split", "--dtype", "float16"],
    ):
        assert oscar_child(command).status == 0
    config = tmp_path / "stored.yaml"
    config.write_text(
        f"base: {whole.config}\n"
        "render_scenes: null\n"
        f"data: {{root: {scenes}, regions: [{stored}]}}\n"
        "tasks: {captioning: null, retrieval: null}\n"
    )
    said = oscar_child(["run", str(config), "--out", str(out), PLAIN])
    assert said.status == 0, said.err
    steps = json.loads((out / "steps.json").read_text())
    assert {"list_images", "train_detector"}.isdisjoint(steps)
    for step in ("pretrain", "vqa_train"):  # where the mapped features lie changes rounding
        assert _losses(out, step) == pytest.approx(_losses(whole.out, step), rel=1e-3)
    mine, theirs = metrics_of(out), metrics_of(whole.out)
    assert mine["vqa.accuracy"] == theirs["vqa.accuracy"]
    assert mine["detector.ap50"] == theirs["detector.ap50"]
    refused = oscar_child(
        ["run", str(config), "--out", str(out), PLAIN, "--set", "pretrain.geometry=height_first"]
    )
    assert refused.status == 2
    assert "width_first" in refused.err


def test_killed_three_times_it_ends_with_the_same_metrics(whole: Run, tmp_path: Path) -> None:
    """Killed in detect, in pretrain and in predict: finished steps stay, training goes on.

    Without Prefect, whose part in the unbroken run changes nothing either.
    """
    out = tmp_path / "run"
    kill_in(
        start(whole.config, out, PLAIN),
        out,
        "detect",
        lambda: any(out.glob("detect-*/regions/regions-*.parquet")),
    )
    first = times_of(out)
    assert "train_detector" in {
        name.rpartition("-")[0] for name in {n.split("/")[0] for n in first}
    }
    assert folder_of(out, "detect") is not None
    kill_in(
        start(whole.config, out, PLAIN), out, "pretrain", lambda: _has_checkpoint(out, "pretrain")
    )
    second = times_of(out)
    assert first.items() <= second.items()
    kill_in(
        start(whole.config, out, PLAIN),
        out,
        "vqa_predict",
        lambda: folder_of(out, "vqa_predict") is not None,
    )
    third = times_of(out)
    assert second.items() <= third.items()
    finish(start(whole.config, out, PLAIN))
    assert third.items() <= times_of(out).items()
    assert metrics_of(out) == metrics_of(whole.out)
    assert _resumed_at(out, "pretrain") > 0
    assert {task for task in TASKS if folder_of(out, f"{task}_score")} == set(TASKS)


def _described(whole: Run, photos: Path, mine: Path) -> Said:
    said = oscar_child(
        ["describe", str(photos), "--run", str(whole.out), "--out", str(mine), PLAIN]
    )
    assert said.status == 0, said.err
    return said


def _losses(out: Path, step: str) -> list[float]:
    folder = folder_of(out, step)
    assert folder is not None
    lines = (folder / "losses.jsonl").read_text().splitlines()
    return [float(json.loads(line)["total"]) for line in lines]


def _has_checkpoint(out: Path, step: str) -> bool:
    return any(out.glob(f"{step}-*/checkpoints/checkpoint-*"))  # whole ones: no hidden partial


def _resumed_at(out: Path, step: str) -> int:
    folder = folder_of(out, step)
    assert folder is not None
    summary = json.loads((folder / "DONE.json").read_text())["summary"]
    return int(summary["resumed_at"])
