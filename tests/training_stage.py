"""A stage that trains a small VQA model, as fast as a training goes; under torchrun, too."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from flows.child_scale import should_stop
from flows.progress import SILENT, Progress
from flows.ranks import rank, world
from oscar_core.errors import TrainingError
from oscar_core.tasks.vqa.records import Config as VqaConfig
from oscar_core.training.loop import StepReport
from storage.artifacts import atomic_write_text
from tests.builders_library import TINY, make_library, tiny_training

VERSION = 1
SPREADS = {"torchrun": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """`fails` is done once by the process `whose`, after update `at`."""

    steps: int = 6
    batch_size: int = 8
    seconds: float = 0.0
    fails: str = ""
    whose: int = 0
    at: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    model: Path
    losses: Path = Path("losses.jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    num_processes: int
    resumed_at: int


def run(config: Config, inputs: Inputs, outputs: Outputs, progress: Progress = SILENT) -> Summary:
    from oscar_core.run import train_task

    folder = outputs.losses.parent
    atomic_write_text(folder / f"pids/{rank()}", f"{os.getpid()} {os.getppid()}")
    asked = 0

    def tell(report: StepReport) -> None:
        progress.at(report.step, report.num_steps)
        atomic_write_text(folder / "step", str(report.step))

    def is_asked_to_stop() -> bool:
        nonlocal asked
        asked += 1
        time.sleep(config.seconds)
        if asked == config.at and rank() == config.whose:
            _fail_once(config.fails, folder / "failed")
        return should_stop()

    summary = train_task(
        task="vqa",
        settings=VqaConfig(loss="cross_entropy", min_questions=1),
        encoder=TINY,
        training=tiny_training(steps=config.steps, batch_size=config.batch_size),
        library=make_library(),
        vocabulary=None,
        start=None,
        folder=outputs.model,
        losses=outputs.losses,
        on_step=tell,
        should_stop=is_asked_to_stop,
    )
    return Summary(num_processes=world(), resumed_at=summary.resumed_at)


def _fail_once(how: str, mark: Path) -> None:
    if not how or mark.exists():
        return
    mark.touch()
    if how == "bad":
        raise TrainingError("row 3: no answer; remove the row")
    if how == "memory":
        raise MemoryError
    os.kill(os.getpid(), int(how))
