"""Whoever writes a file of a run, it has the mode that the user's umask makes of a new one."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from detector.training.checkpoint import Checkpoint, write_checkpoint
from oscar_core.training.checkpoints import Place, save_checkpoint
from oscar_core.training.config import TrainingConfig
from oscar_core.training.learner import new_learner
from storage.artifacts import atomic_path, atomic_write_json, write_done
from tests.builders_flows import make_execution, make_step
from tests.builders_storage import make_regions, write_regions
from tests.safety.test_foreign_files import detector_folder, model_folder


def training_checkpoint(folder: Path) -> None:
    learner = new_learner(nn.Linear(2, 2), TrainingConfig())
    save_checkpoint(folder, learner, Place(identity="x"))


def detector_checkpoint(folder: Path) -> None:
    model = {"weight": torch.zeros(2)}
    write_checkpoint(folder, Checkpoint(step=1, identity="x", model=model, optimiser={}))


def plain_files(folder: Path) -> None:
    atomic_write_json(folder / "deep" / "plain.json", {})
    write_done(folder, "f", {})


def run_of_a_step(folder: Path) -> None:
    from flows.schedule import run_plan

    run_plan(make_execution(folder, [make_step("first")]))


WRITERS: dict[str, Callable[[Path], object]] = {
    "plain files": plain_files,
    "region shards": lambda folder: write_regions(folder, [make_regions("a/1")]),
    "a detector": detector_folder,
    "a model": model_folder,
    "a training's checkpoint": training_checkpoint,
    "a detector's checkpoint": detector_checkpoint,
    "a step's child and its records": run_of_a_step,
}


@pytest.fixture(params=[0o022, 0o027, 0o002], ids=["022", "027", "002"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("writer", WRITERS)
def test_modes_are_what_the_umask_says(writer: str, umask: int, tmp_path: Path) -> None:
    place = tmp_path / "place"
    WRITERS[writer](place)
    found = list(place.rglob("*"))
    assert [path for path in found if path.is_file()]
    for path in found:
        whole = 0o777 if path.is_dir() else 0o666
        assert stat.S_IMODE(path.stat().st_mode) == whole & ~umask, path


def test_a_file_replaced_keeps_no_older_mode(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "a.json"
    path.write_text("x")
    path.chmod(0o600)
    atomic_write_json(path, {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_file_that_cannot_be_begun_is_named(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 80)
    with pytest.raises(OSError, match="too long") as refused, atomic_path(path):
        pass
    assert refused.value.filename == str(path)
