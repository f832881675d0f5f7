"""One folder used again and again: other settings, other photos, resumed, compared, cleaned.

The run is a real one (`tests.builders_runs`), made once; each test takes a copy of it.
"""

import json
import re
import shutil
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from PIL import Image, ImageOps
from rich.console import Console
from rich.table import Table

from flows.commands.clean import cleanable, free
from flows.commands.compare import comparison
from flows.commands.resume import resume_run
from flows.commands.show import plan_table
from flows.commands.status import show_status
from flows.config import as_yaml
from flows.dataset import difference, digest_of, read_digest, write_digest
from flows.errors import FlowError, PlanError
from flows.history import passed
from flows.pipeline import plan_of
from flows.report.metrics_file import write_metrics
from flows.run_folder import RunFolder
from flows.runner import ALREADY_DONE
from storage.region_shards import RegionReader
from tests.builders_runs import SmallRun, make_small_run, with_rows

STEPS = ["list_images", "collect_annotations", "detect", "translate_tags", "report"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    small = make_small_run(tmp_path_factory.mktemp("small"))
    small.run()
    return small


@pytest.fixture
def small(made: SmallRun, tmp_path: Path) -> SmallRun:
    shutil.copytree(made.folder, tmp_path / "small")
    copy = SmallRun(tmp_path / "small")
    config = (copy.out / "config.yaml").read_text()
    (copy.out / "config.yaml").write_text(config.replace(str(made.folder), str(copy.folder)))
    return copy


def text_of(*tables: Table) -> str:
    stream = StringIO()
    for table in tables:
        Console(file=stream, width=300).print(table)
    return stream.getvalue()


def would_run(small: SmallRun, **changes: object) -> dict[str, str]:
    """Step -> why, of the steps that would run."""
    plan = plan_of(replace(small.config(), **changes))
    rows: dict[str, str] = {}
    step = ""
    for line in text_of(plan_table(plan, small.out)).splitlines()[1:]:
        name, _, rest = line.partition(" ")
        step = name or step
        found = re.match(r"\s*(yes|no)?\s*(\S+( \S+)*)?", rest)
        if found is not None and found[1] == "yes":
            rows[step] = found[2]
    return rows


def test_an_end_is_recorded_with_its_data(small: SmallRun) -> None:
    run = RunFolder(small.out)
    [entry] = passed(run)
    assert sorted(entry.folders) == sorted(STEPS)
    assert entry.metrics == {
        name: value
        for name, value in json.loads((small.out / "metrics.json").read_text()).items()
        if not name.startswith("_")
    }
    assert read_digest(run) == digest_of(small.config(), run)


def test_nothing_to_do_is_no_other_end(small: SmallRun) -> None:
    finished = small.run()
    assert {result.state for result in finished.results.values()} == {ALREADY_DONE}
    assert len(passed(finished.run)) == 1


def test_plan_says_which_photos_came_and_what_stands_on_them(small: SmallRun) -> None:
    shutil.copy(next(small.photos.rglob("*.png")), small.photos / "new.png")
    why = would_run(small)
    assert why["list_images"] == "photos:0: 1 file added (new.png)"
    assert why["translate_tags"] == "made anew before it: detect"
    became = difference(
        read_digest(RunFolder(small.out)), digest_of(small.config(), RunFolder(small.out))
    )
    assert str(became) == "1 photo added"


def test_only_new_and_changed_photos_are_seen_again(small: SmallRun) -> None:
    before = read_digest(RunFolder(small.out))
    first, second, third = sorted(small.photos.rglob("*.png"))
    ImageOps.invert(Image.open(first)).save(small.photos / "new.png")
    ImageOps.mirror(ImageOps.invert(Image.open(third))).save(third)
    first.unlink()
    finished = small.run()
    seen = finished.results["detect"].summary
    assert (seen["num_in"], seen["num_out"]) == (3, 3)
    assert (seen["num_reused"], seen["num_computed"]) == (1, 2)
    regions = RegionReader(small.out / finished.folders["detect"] / "regions")
    assert sorted(regions) == sorted(
        path.relative_to(small.photos).with_suffix("").as_posix()
        for path in (second, third, small.photos / "new.png")
    )
    now = read_digest(finished.run)
    assert now is not None
    assert str(difference(before, now)) == "1 photo added, 1 photo removed, 1 photo changed"


def test_a_changed_setting_runs_only_what_depends_on_it(small: SmallRun) -> None:
    page = replace(small.config().report, num_gallery=3)
    assert would_run(small, report=page) == {"report": "config.num_gallery 12 -> 3"}
    finished = small.run(replace(small.config(), report=page))
    ran = [name for name, result in finished.results.items() if result.state != ALREADY_DONE]
    assert ran == ["report"]


def test_resume_goes_on_with_the_kept_configuration(small: SmallRun) -> None:
    folder = next(small.out.glob("report-*"))
    (folder / "DONE.json").unlink()
    said = StringIO()
    finished = resume_run(small.out, from_step=None, settings=[], with_prefect=False, stream=said)
    assert finished.results["report"].state == "done"
    assert (folder / "DONE.json").exists()


def test_resume_from_a_step_sets_aside_what_stands_on_it(small: SmallRun) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in small.out.glob("*/DONE.json")}
    said = StringIO()
    finished = resume_run(
        small.out, from_step="translate_tags", settings=[], with_prefect=False, stream=said
    )
    ran = [name for name, result in finished.results.items() if result.state != ALREADY_DONE]
    assert ran == ["translate_tags", "report"]
    aside = sorted(path.name.partition("-")[0] for path in small.out.glob("discarded/*/*-*/"))
    assert aside == ["report", "translate_tags"]
    assert before
    assert "set aside" in said.getvalue()


def test_resume_names_what_is_not_there(small: SmallRun, tmp_path: Path) -> None:
    def resume(run: Path, step: str | None) -> None:
        resume_run(run, from_step=step, settings=[], with_prefect=False, stream=StringIO())

    with pytest.raises(PlanError, match="no step 'trane'; there are list_images,"):
        resume(small.out, "trane")
    with pytest.raises(FlowError, match=r"nothere: no run here; oscar-flow run CONFIG --out"):
        resume(tmp_path / "nothere", None)
    steps = json.loads((small.out / "steps.json").read_text())
    (small.out / "steps.json").write_text(json.dumps({**steps, "write_captions": "x"}))
    with pytest.raises(FlowError, match="made by oscar-flow describe"):
        resume(small.out, None)


def test_status_of_a_finished_run(small: SmallRun) -> None:
    said = StringIO()
    show_status(small.out, watch=True, stream=said)  # nothing to wait for
    lines = said.getvalue().splitlines()
    assert [line.split()[:2] for line in lines[1:6]] == [[step, "done"] for step in STEPS]
    assert "5 of 5 steps done; finished" in said.getvalue()


def test_runs_are_compared_by_metrics_settings_and_data(small: SmallRun, tmp_path: Path) -> None:
    other = SmallRun(tmp_path / "other")
    shutil.copytree(small.folder, other.folder)
    shutil.copy(next(other.photos.rglob("*.png")), other.photos / "new.png")
    write_digest(RunFolder(other.out), digest_of(other.config(), RunFolder(other.out)))
    (other.out / "config.yaml").write_text(as_yaml(with_rows(other.config(), 2)))
    for run, cider in ((small, 0.5), (other, 0.625)):
        write_metrics(run.out / "metrics.json", {"cider": cider, "same": 3.0}, {"jieba": "1"})
    metrics, settings, data = map(text_of, comparison(small.out, other.out))
    assert [line.split() for line in metrics.splitlines()[1:]] == [
        ["cider", "0.500", "0.625", "+0.125"],
        ["same", "3", "3", "="],
    ]
    assert re.search(r"detect\.rows_per_shard +256 +2", settings)
    assert "resources" not in settings
    assert "1 photo added" in data


def test_an_unfinished_run_is_not_compared(small: SmallRun, tmp_path: Path) -> None:
    with pytest.raises(FlowError, match=r"metrics\.json: not there or not whole; finish the run"):
        comparison(small.out, tmp_path)


def test_clean_keeps_what_two_ends_need(small: SmallRun) -> None:
    pages = [replace(small.config().report, num_gallery=number) for number in (3, 4)]
    for page in pages:
        small.run(replace(small.config(), report=page))
    found = cleanable(small.out)
    folders = [item.path.name.partition("-")[0] for item in found.items if item.path.is_dir()]
    assert folders == ["report"]
    free(small.out, found)
    assert cleanable(small.out).items == ()
    for page in pages:
        finished = small.run(replace(small.config(), report=page))
        assert {result.state for result in finished.results.values()} == {ALREADY_DONE}
