"""Stage: a trained model and photos -> what it says of them, and of the controls.

Three times: with the right picture, with regions and tags of another one, and with regions of
another one beside the right tags. A score means something only above its controls.
"""

from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flows.predictions import CANDIDATES, RIGHT, candidates_of, file_name, rows, write_predictions
from flows.progress import SILENT, Progress
from storage.artifacts import atomic_write_json

if TYPE_CHECKING:
    from storage.library import Library

VERSION = 1
USES_DEVICE = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What is predicted.

    split:    of the annotations
    controls: which of `oscar_core.task.CONTROLS`; "" is the right picture
    seed:     of which image stands in for which
    """

    split: str = "test"
    controls: tuple[str, ...] = ("", "shuffled", "features_shuffled")
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CutConfig(Config):
    """The same predictions by smaller batches.

    Only `shrunk` makes it, for one try: it is never configured, so no step is known by it.

    parts: into which the task's batches are cut
    """

    parts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    model: Path
    regions: Path
    tags: Path
    annotations: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    predictions: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    num_in: int
    num_out: int
    num_quarantined: int


def shrunk(config: Config, halvings: int) -> Config:
    """Half the examples at once each time."""
    values = {each.name: getattr(config, each.name) for each in fields(Config)}
    return CutConfig(**values, parts=2**halvings) if halvings else config


def run(config: Config, inputs: Inputs, outputs: Outputs, progress: Progress = SILENT) -> Summary:
    """Predict with every control that has no whole file yet."""
    from oscar_core.run import predict_task
    from storage.library import open_library

    library = open_library(inputs.regions, inputs.tags, inputs.annotations)
    ranked = candidates_of(inputs.model, library, config.split)
    if ranked is not None:
        atomic_write_json(outputs.predictions / CANDIDATES, ranked, indent=None)
    num_out = 0
    for control in config.controls:
        path = outputs.predictions / file_name(control)
        if not path.is_file():
            predictions = predict_task(
                model=inputs.model,
                library=with_control(library, control, config),
                split=config.split,
                on_batch=partial(_tell, progress, control or RIGHT),
                parts=config.parts if isinstance(config, CutConfig) else 1,
            )
            write_predictions(path, predictions)
        num_out += len(rows(path))
    return Summary(num_in=num_out, num_out=num_out, num_quarantined=0)


def _tell(progress: Progress, control: str, done: int, total: int) -> None:
    progress.at(done, total, unit="examples", note=control)


def with_control(library: "Library", control: str, config: Config) -> "Library":
    """The library as a control sees it: every image of the split with another one's regions."""
    from oscar_core.controls import swapped_images

    if not control:
        return library
    others = swapped_images(library.image_ids(config.split), config.seed)
    return library.with_swapped(others, keep_tags=control == "features_shuffled")
