"""One of several processes that train together; forked from a server that has imported all this."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import torch

from oscar_core.errors import TrainingStoppedError
from oscar_core.run import train_task
from oscar_core.tasks.captioning.records import Config as CaptionConfig
from oscar_core.tasks.pretraining.records import Config as PretrainingConfig
from oscar_core.tasks.vqa.records import Config as VqaConfig
from oscar_core.training.checkpoints import checkpoint_paths
from oscar_core.training.loop import StepReport
from oscar_core.views import ViewSettings
from tests.builders_library import TINY, make_library, tiny_training

SETTINGS: dict[str, object] = {
    "captioning": CaptionConfig(
        view=ViewSettings(max_regions=4), max_text=30, max_text_a=20, mask_probability=0.5
    ),
    "pretraining": PretrainingConfig(view=ViewSettings(max_regions=4), region_weight=1.0),
    "vqa": VqaConfig(loss="cross_entropy", min_questions=1),
}


def slow_sync(stream: int, sync: Callable[[int], None] = os.fsync) -> None:
    """What a disk with much to do makes of `os.fsync`."""
    time.sleep(0.5)
    sync(stream)


def main(
    folder: Path,
    task: str,
    dropout: float,
    training: dict[str, Any],
    place: Mapping[str, str],
    stop_at: int = 0,
) -> None:
    """Train to the end, or until asked to stop; the disk is slow from then on.

    Args:
        folder: Gets `model`, `losses.jsonl`, `step`, `resumed_at` and `stderr<rank>`; and of each
            process that was stopped `left<rank>`, the checkpoints that were there when it left.
        task: One of `SETTINGS`.
        dropout: Of the model.
        training: Changes of `tiny_training`.
        place: What torchrun would put into the environment.
        stop_at: Update at which all are asked to stop; 0: never.
    """
    os.environ.update(place)
    torch.set_num_threads(1)
    with open(folder / f"stderr{place['RANK']}", "ab") as stream:
        os.dup2(stream.fileno(), 2)

    def tell(report: StepReport) -> None:
        partial = folder / "step.partial"
        partial.write_text(str(report.step))
        partial.replace(folder / "step")

    asked = count(1)

    def should_stop() -> bool:
        is_time = next(asked) == stop_at
        if is_time:
            os.fsync = slow_sync
        return is_time

    try:
        summary = train_task(
            task=task,
            settings=SETTINGS[task],
            encoder=replace(TINY, hidden_dropout=dropout, attention_dropout=dropout, num_layers=2),
            training=tiny_training(**training),
            library=make_library(),
            vocabulary=None,
            start=None,
            folder=folder / "model",
            losses=folder / "losses.jsonl",
            on_step=tell,
            should_stop=should_stop,
        )
    except TrainingStoppedError:
        found = [path.name for path in checkpoint_paths(folder / "checkpoints")]
        (folder / f"left{place['RANK']}").write_text(" ".join(found))
        raise
    if place["RANK"] == "0":
        (folder / "resumed_at").write_text(str(summary.resumed_at))
