import json
from pathlib import Path

import pytest
import torch

from detector.errors import DetectorError
from detector.training.checkpoint import (
    CHECKPOINT,
    Checkpoint,
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
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path, "this run") is None
    remove_checkpoint(tmp_path)


def test_a_cut_checkpoint_is_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, checkpoint(1))
    whole = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DetectorError, match=r"checkpoint\.pt: not a readable checkpoint"):
        read_checkpoint(tmp_path, "this run")


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, checkpoint(1))
    with pytest.raises(DetectorError, match="other settings"):
        read_checkpoint(tmp_path, "that run")


def test_history_is_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    lines = [json.dumps({"step": step, "total": 1.0}) for step in (1, 2, 3)]
    (tmp_path / "losses.jsonl").write_text("\n".join(lines) + '\n{"step": 4, "to')
    trim_history(tmp_path / "losses.jsonl", 2)
    assert (tmp_path / "losses.jsonl").read_text() == "\n".join(lines[:2]) + "\n"
