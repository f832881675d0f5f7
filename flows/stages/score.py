"""Stage: predictions -> scores, each beside its controls.

Where the truth about the pictures is known (the demo), the colours that captions name are judged,
too: CIDEr hardly notices a wrong one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.predictions import all_predictions
from flows.progress import SILENT, Progress
from flows.task_settings import typed_settings
from storage.artifacts import atomic_write_json

VERSION = 1
CAPTIONING = "captioning"
COLOUR_PRECISION = "colour_precision"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """settings: of the task's `Config`; split: on which was predicted."""

    task: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    split: str = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """truth: what the pictures show, where somebody knows."""

    predictions: Path
    regions: Path
    tags: Path
    annotations: Path
    truth: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    scores: Path = Path("scores.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    num_in: int
    num_out: int
    num_quarantined: int
    num_scores: int


def run(config: Config, inputs: Inputs, outputs: Outputs, progress: Progress = SILENT) -> Summary:
    """Judge every control's predictions by the task's own measures."""
    from oscar_core.task import CONTROLS, load_task
    from storage.library import open_library

    predictions = all_predictions(inputs.predictions, config.task, CONTROLS)
    num_in = sum(map(len, predictions.values()))
    progress.at(0, num_in, unit="predictions")
    settings = typed_settings(config.task, config.settings)
    library = open_library(inputs.regions, inputs.tags, inputs.annotations)
    scores = load_task(config.task).score(settings, predictions, library, config.split)
    values = dict(scores.values)
    speaks_chinese = getattr(settings, "language", "") == "zh"
    if config.task == CAPTIONING and speaks_chinese and inputs.truth is not None:
        values |= colour_precisions(predictions, inputs.truth)
    atomic_write_json(outputs.scores, {"values": values, "versions": dict(scores.versions)})
    progress.at(num_in, num_in, unit="predictions", is_last=True)
    return Summary(num_in=num_in, num_out=num_in, num_quarantined=0, num_scores=len(values))


def colour_precisions(predictions: Mapping[str, Sequence[Any]], truth: Path) -> Mapping[str, float]:
    """Share of the object-with-colour phrases that are true of the photo, by control."""
    from flows.demo.texts import colour_precision
    from flows.demo.truth import read_truth

    shown = {name: image.colour_phrases for name, image in read_truth(truth).items()}
    return {
        f"{COLOUR_PRECISION}_{control}" if control else COLOUR_PRECISION: colour_precision(
            {each.image_id: each.caption for each in predicted}, shown
        )
        for control, predicted in predictions.items()
    }
