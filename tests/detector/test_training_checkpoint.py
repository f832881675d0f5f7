import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from detector.errors import DetectorError
from detector.training.checkpoint import (
    BEFORE,
    CHECKPOINT,
    Checkpoint,
    latest_checkpoint,
    read_checkpoint,
    remove_checkpoint,
    trim_history,
    write_checkpoint,
)


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(
        step=step,
        identity="this run",
        model={"weight": torch.arange(3.0)},
        optimiser={"state": {0: {"step": torch.tensor(4.0)}}, "param_groups": []},
    )


def test_a_checkpoint_reads_back_equal(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, checkpoint(1))
    write_checkpoint(tmp_path, checkpoint(7))
    found = read_checkpoint(tmp_path, "this run")
    assert found is not None
    assert found.step == 7
    assert found.model["weight"].tolist() == [0, 1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == [BEFORE, CHECKPOINT]
    before = read_checkpoint(tmp_path, "this run", BEFORE)
    assert before is not None
    assert before.step == 1
    remove_checkpoint(tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path, "this run") is None
    remove_checkpoint(tmp_path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """One bit of a weight, which torch itself would not notice."""
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(3.0).numpy().tobytes()) + 9] ^= 0x10
    path.write_bytes(content)


@pytest.mark.parametrize("spoil", [cut, flip])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    write_checkpoint(tmp_path, checkpoint(1))
    spoil(tmp_path / CHECKPOINT)
    with pytest.raises(DetectorError, match=r"checkpoint\.pt: not a readable checkpoint"):
        read_checkpoint(tmp_path, "this run")


def test_a_damaged_checkpoint_costs_the_way_back_to_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 7):
        write_checkpoint(tmp_path, checkpoint(step))
    flip(tmp_path / CHECKPOINT)
    found = latest_checkpoint(tmp_path, "this run")
    assert found is not None
    assert found.step == 1
    assert "checkpoint.pt: not a readable checkpoint" in caplog.text
    cut(tmp_path / BEFORE)
    assert latest_checkpoint(tmp_path, "this run") is None


def test_killed_between_two_renames_the_one_before_counts(tmp_path: Path) -> None:
    for step in (1, 7):
        write_checkpoint(tmp_path, checkpoint(step))
    (tmp_path / CHECKPOINT).unlink()
    found = latest_checkpoint(tmp_path, "this run")
    assert found is not None
    assert found.step == 1


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, checkpoint(1))
    with pytest.raises(DetectorError, match="other settings"):
        read_checkpoint(tmp_path, "that run")


def test_history_is_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    lines = [json.dumps({"step": step, "total": 1.0}) for step in (1, 2, 3)]
    (tmp_path / "losses.jsonl").write_text("\n".join(lines) + '\n{"step": 4, "to')
    trim_history(tmp_path / "losses.jsonl", 2)
    assert (tmp_path / "losses.jsonl").read_text() == "\n".join(lines[:2]) + "\n"
