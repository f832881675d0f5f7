"""Stage: regions, tags and annotations -> a trained model of one task.

Goes on from its last checkpoint when it was interrupted; checkpoints are removed at the end.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.progress import SILENT, Progress
from flows.task_settings import typed_settings
from oscar_core.config import EncoderSettings
from oscar_core.training.config import TrainingConfig

if TYPE_CHECKING:
    from oscar_core.training.loop import StepReport

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One training.

    task:       folder of `oscar_core.tasks`
    settings:   of that task's `Config`
    encoder:    sizes of a new model; one that goes on from `start` keeps its own
    vocabulary: a BERT vocabulary; None builds one from the training texts, or keeps that of `start`
    """

    task: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    vocabulary: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """start: model folder of an earlier training."""

    regions: Path
    tags: Path
    annotations: Path
    start: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    model: Path
    losses: Path = Path("losses.jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """resumed_at: updates that earlier, interrupted attempts had done."""

    num_in: int
    num_out: int
    num_quarantined: int
    num_steps: int
    last_loss: float
    resumed_at: int


def run(config: Config, inputs: Inputs, outputs: Outputs, progress: Progress = SILENT) -> Summary:
    """Train, or go on training."""
    from oscar_core.run import train_task
    from storage.library import open_library

    def tell(report: "StepReport") -> None:
        progress.at(report.step, report.num_steps, unit="steps", note=f"loss {report.total:.3f}")

    library = open_library(inputs.regions, inputs.tags, inputs.annotations)
    summary = train_task(
        task=config.task,
        settings=typed_settings(config.task, config.settings),
        encoder=config.encoder,
        training=config.training,
        library=library,
        vocabulary=config.vocabulary,
        start=inputs.start,
        folder=outputs.model,
        losses=outputs.losses,
        on_step=tell,
    )
    return Summary(
        num_in=summary.num_examples,
        num_out=summary.num_examples,
        num_quarantined=0,
        num_steps=summary.num_steps,
        last_loss=summary.last_loss,
        resumed_at=summary.resumed_at,
    )
