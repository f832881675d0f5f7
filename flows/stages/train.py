"""Stage: regions, tags and annotations -> a trained model of one task.

Goes on from its last checkpoint when it was interrupted; checkpoints are removed at the end.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flows.child_scale import should_stop
from flows.model_card import Learned, write_model_card
from flows.progress import SILENT, Progress
from flows.ranks import is_writer
from flows.task_settings import typed_settings
from oscar_core.config import EncoderSettings
from oscar_core.training.config import TrainingConfig

if TYPE_CHECKING:
    from oscar_core.training.loop import StepReport

VERSION = 1
USES_DEVICE = True
SPREADS = {"torchrun": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One training.

    task:       folder of `oscar_core.tasks`
    settings:   of that task's `Config`
    encoder:    sizes of a new model; one that goes on from `start` keeps its own
    vocabulary: a BERT vocabulary; None builds one from the training texts, or keeps that of `start`
    hidden_dropout: instead of that of the sizes, those of `start` included
    geometry:   order of the last two numbers of the regions that a published `start` learned from;
                regions in another order are refused. None: what its folder tells, or any
    """

    task: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    vocabulary: Path | None = None
    hidden_dropout: float | None = None
    geometry: Literal["width_first", "height_first"] | None = None


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
    """The training.

    resumed_at: updates that earlier, interrupted attempts had done
    drawn_anew: parts of the model that `start` lacks
    left_out:   parts of `start` that the model lacks
    """

    num_in: int
    num_out: int
    num_quarantined: int
    num_steps: int
    last_loss: float
    resumed_at: int
    drawn_anew: str = ""
    left_out: str = ""


def shrunk(config: Config, halvings: int) -> Config:
    """Half the memory each time and the same effective batch: its parts are halved."""
    training = config.training
    parts = min(training.batch_size, training.accumulation * 2**halvings)
    return replace(config, training=replace(training, accumulation=parts))


def run(config: Config, inputs: Inputs, outputs: Outputs, progress: Progress = SILENT) -> Summary:
    """Train, or go on training; when asked to stop, save a checkpoint first.

    Raises:
        TrainingStoppedError: It was asked to stop.
    """
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
        should_stop=should_stop,
        hidden_dropout=config.hidden_dropout,
        geometry=config.geometry,
    )
    if is_writer():
        facts = {"examples": summary.num_examples, "updates": summary.num_steps}
        parts = {
            "drawn anew, as the start lacks it": summary.drawn_anew,
            "left out of the start": summary.left_out,
        }
        learned = Learned(
            task=config.task,
            languages=(str(config.settings.get("language", "zh")),),
            facts={
                **facts,
                "loss at the end": summary.last_loss,
                **{name: told for name, told in parts.items() if told},
            },
            losses=outputs.losses,
            start=inputs.start,
        )
        write_model_card(outputs.model, learned)
    return Summary(
        num_in=summary.num_examples,
        num_out=summary.num_examples,
        num_quarantined=0,
        num_steps=summary.num_steps,
        last_loss=summary.last_loss,
        resumed_at=summary.resumed_at,
        drawn_anew=summary.drawn_anew,
        left_out=summary.left_out,
    )
