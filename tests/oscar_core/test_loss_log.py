"""The file of losses: kept up to a checkpoint, whatever happened to it."""

import logging
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
    assert [row["step"] for row in log.rows] == [1, 2, 3]
    assert (tmp_path / "losses.jsonl").read_text().count("\n") == 3
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
    assert len(log.rows) == 3
    assert "the losses of 1 of 4 updates are lost" in caplog.text
