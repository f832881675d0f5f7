"""Checkpoints are written beside the training; what goes wrong there is not lost."""

import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from oscar_core.training.checkpoints import (
    Place,
    checkpoint_paths,
    load_checkpoint,
    save_checkpoint,
)
from oscar_core.training.config import TrainingConfig
from oscar_core.training.learner import Learner, new_learner
from oscar_core.training.writing import CheckpointWriter


def learner(value: float = 0.0) -> Learner:
    model = nn.Linear(2, 1)
    for parameter in model.parameters():
        parameter.data.fill_(value)
    return new_learner(model, TrainingConfig())


def no_room() -> None:
    raise OSError(28, "No space left on device")


def save_and_look(folder: Path, error: Exception | None = None) -> None:
    """A checkpoint that finds no room; then the training fails, or goes on until it is told."""
    with writer(folder, no_room) as writing:
        writing.save(learner(), Place(identity="x", step=1))
        if error is not None:
            raise error
        while True:
            writing.check()


def writer(folder: Path, before: object = lambda: None, keep_last: int = 2) -> CheckpointWriter:
    return CheckpointWriter(folder, keep_last=keep_last, writes=True, before=before)


def test_the_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    may_write = threading.Event()
    one = learner(1.0)
    with writer(tmp_path, may_write.wait) as writing:
        writing.save(one, Place(identity="x", step=5))
        for parameter in one.model.parameters():
            parameter.data.fill_(9.0)  # the next updates
        assert checkpoint_paths(tmp_path) == []
        writing.check()
        may_write.set()
    other = learner()
    assert load_checkpoint(tmp_path, other, "x").step == 5
    assert torch.equal(other.model.weight, torch.ones(1, 2))


def test_a_full_disk_is_told_at_the_next_look(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        save_and_look(tmp_path)


def test_an_error_of_the_training_is_not_hidden_by_one_of_the_writing(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="training"):
        save_and_look(tmp_path, KeyError("training"))


def test_one_checkpoint_is_in_flight_at_most(tmp_path: Path) -> None:
    running: list[int] = []
    most = 0

    def count() -> None:
        nonlocal most
        running.append(1)
        most = max(most, len(running))
        running.pop()

    with writer(tmp_path, count) as writing:
        for step in range(1, 9):
            writing.save(learner(float(step)), Place(identity="x", step=step))
    assert most == 1
    assert [path.stem[-1] for path in checkpoint_paths(tmp_path)] == ["7", "8"]


def test_what_a_kill_left_half_written_goes_when_the_training_goes_on(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, learner(), Place(identity="x", step=1))
    left = tmp_path / ".checkpoint-0000002.safetensors.7-7.partial"
    left.write_bytes(b"half")
    assert load_checkpoint(tmp_path, learner(), "x").step == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("keep_last", [1, 3])
def test_the_last_ones_stay(tmp_path: Path, keep_last: int) -> None:
    for step in range(1, 6):
        save_checkpoint(tmp_path, learner(), Place(identity="x", step=step), keep_last)
    names = [path.stem for path in checkpoint_paths(tmp_path)]
    assert names == [f"checkpoint-{step:07d}" for step in range(6 - keep_last, 6)]


def test_a_process_that_does_not_write_copies_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = CheckpointWriter(tmp_path, keep_last=2, writes=False, before=lambda: None)
    one = learner()
    copied: list[torch.Tensor] = []
    plain = torch.Tensor.copy_
    monkeypatch.setattr(
        torch.Tensor, "copy_", lambda self, *given: copied.append(self) or plain(self, *given)
    )
    with silent as writing:
        writing.save(one, Place(identity="x", step=1))
    assert copied == []
    assert checkpoint_paths(tmp_path) == []
