"""The training stage: smaller parts for the same batch, a card, a stop."""

import json
from pathlib import Path

import yaml

from flows.stages.train import Config, shrunk
from oscar_core.training.config import TrainingConfig


def test_half_the_memory_is_twice_the_parts_of_the_same_batch() -> None:
    config = Config(task="vqa", training=TrainingConfig(batch_size=24, accumulation=2))
    assert [shrunk(config, times).training.accumulation for times in (0, 1, 2, 9)] == [2, 4, 8, 24]
    assert shrunk(config, 3).training.batch_size == 24
    assert shrunk(config, 0) == config
