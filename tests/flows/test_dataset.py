"""What a run learns from, as digests, and what became of it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from flows.config import RunConfig
from flows.data import Data, PhotoCollection
from flows.dataset import (
    DatasetDifference,
    difference,
    digest_of,
    read_digest,
    write_digest,
)
from flows.run_folder import RunFolder
from flows.stages.render_scenes import Config as Rendering
from flows.stages.translate_tags import Config as Translating


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    (tmp_path / "run" / "state").mkdir(parents=True)
    return RunFolder(tmp_path / "run")


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    for name in ("a", "b", "c"):
        path = tmp_path / "data" / "photos" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "data" / "captions.json").write_text("{}")
    (tmp_path / "dictionary.txt").write_text("dog\t狗\n")
    (tmp_path / "detector").mkdir()
    return RunConfig(
        data=Data(
            root=tmp_path / "data",
            images=(PhotoCollection(path="photos"),),
            sources=({"reader": "coco_captions", "path": "captions.json"},),
        ),
        detector_weights=tmp_path / "detector",
        translate_tags=Translating(dictionary=tmp_path / "dictionary.txt"),
    )


def test_photos_that_came_went_or_changed_are_counted(
    tmp_path: Path, run: RunFolder, config: RunConfig
) -> None:
    before = digest_of(config, run)
    photos = tmp_path / "data" / "photos"
    (photos / "a.jpg").unlink()
    (photos / "b.jpg").write_text("other")
    for name in ("d", "e", "f"):
        (photos / f"{name}.jpg").write_text(name)
    became = difference(before, digest_of(config, run))
    assert became == DatasetDifference(added=3, removed=1, changed=1)
    assert str(became) == "3 photos added, 1 photo removed, 1 photo changed"
    assert became.counts()["added"] == 3


def test_the_same_data_elsewhere_is_the_same(
    tmp_path: Path, run: RunFolder, config: RunConfig
) -> None:
    before = digest_of(config, run)
    shutil.move(tmp_path / "data", tmp_path / "moved")
    now = digest_of(replace(config, data=replace(config.data, root=tmp_path / "moved")), run)
    assert now == before
    assert now.total == before.total
    assert difference(before, now).is_empty
    assert str(difference(before, now)) == "no new data"


def test_other_files_are_named_but_models_are_no_data(
    tmp_path: Path, run: RunFolder, config: RunConfig
) -> None:
    before = digest_of(config, run)
    (tmp_path / "data" / "captions.json").write_text('{"images": []}')
    (tmp_path / "dictionary.txt").write_text("dog\t犬\n")
    (tmp_path / "detector" / "weights").write_text("new")
    became = difference(before, digest_of(config, run))
    assert became.annotations == ("0.path",)
    assert became.others == ("translate_tags.dictionary",)
    assert (became.added, became.removed, became.changed) == (0, 0, 0)


def test_from_nothing_everything_was_added(run: RunFolder, config: RunConfig) -> None:
    assert difference(None, digest_of(config, run)).added == 3


def test_a_folder_that_nobody_wrote_down_is_named(
    tmp_path: Path, run: RunFolder, config: RunConfig
) -> None:
    before = digest_of(config, run)
    shutil.rmtree(run.path / "state" / "outside")
    (tmp_path / "data" / "photos" / "d.jpg").write_text("d")
    became = difference(before, digest_of(config, run))
    assert became == DatasetDifference(unlisted=("0",))
    assert not became.is_empty


def test_it_is_kept_in_the_run(run: RunFolder, config: RunConfig) -> None:
    assert read_digest(run) is None
    digest = digest_of(config, run)
    write_digest(run, digest)
    assert read_digest(run) == digest
    assert json.loads((run.path / "dataset.json").read_text())["total"] == digest.total


def test_rendered_scenes_count_by_their_settings(run: RunFolder, config: RunConfig) -> None:
    rendered = replace(config, render_scenes=Rendering(), data=config.data)
    other = replace(rendered, seed=7)
    assert digest_of(rendered, run) != digest_of(other, run)
    assert digest_of(rendered, run).photos == {}
