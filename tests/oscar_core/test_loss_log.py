"""The file of losses: kept up to a checkpoint, whatever happened to it."""

import json
import logging
import tracemalloc
from pathlib import Path

import pytest

from oscar_core.training.loss_log import LossLog


def filled(path: Path, num: int) -> LossLog:
    log = LossLog(path)
    for step in range(1, num + 1):
        log.add(step, "all", {"total": 1.0 / step})
    return log


def test_updates_after_the_checkpoint_are_forgotten(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path / "losses.jsonl", 5)
    log = LossLog(tmp_path / "losses.jsonl")
    log.keep_until(3)
    rows = (tmp_path / "losses.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [1, 2, 3]
    assert caplog.records == []


@pytest.mark.parametrize("spoil", [lambda text: text[:-9], lambda text: b"\0\xff\n" + text[9:]])
def test_lost_losses_are_told_and_stop_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: object
) -> None:
    path = tmp_path / "losses.jsonl"
    filled(path, 4)
    path.write_bytes(spoil(path.read_bytes()))
    log = LossLog(path)
    with caplog.at_level(logging.WARNING):
        log.keep_until(4)
    assert path.read_text().count("\n") == 3
    assert "the losses of 1 of 4 updates are lost" in caplog.text


@pytest.mark.parametrize(("num", "expected"), [(0, 0.0), (3, 1 / 3), (20, (1 / 19 + 1 / 20) / 2)])
def test_the_last_loss_is_the_mean_of_the_last_tenth(
    tmp_path: Path, num: int, expected: float
) -> None:
    log = filled(tmp_path / "losses.jsonl", num)
    assert log.last_loss() == pytest.approx(expected, abs=1e-5)


def test_memory_does_not_grow_with_the_updates(tmp_path: Path) -> None:
    log = filled(tmp_path / "losses.jsonl", 10)
    tracemalloc.start()
    for step in range(11, 1011):
        log.add(step, "all", {"total": 1.0 / step, "words": 2.0 / step})
    log.last_loss()
    log.keep_until(1000)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 50_000  # the rows alone would be 400,000
