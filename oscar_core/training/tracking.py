"""Tells the losses to TensorBoard, MLflow or Weights & Biases, by Accelerate's trackers.

All of them write below the step's folder and need no network; whoever runs a server names it by
that tool's own environment variables.
"""

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker

from oscar_core.errors import TrainingError
from oscar_core.training.config import TrackerName

_PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}
_PROJECT = "oscar-flow"


def check_trackers(names: Sequence[TrackerName]) -> None:
    """Refuse trackers whose package is not there; to be asked before anything is spent.

    Raises:
        TrainingError: One cannot be imported.
    """
    for name in names:
        if find_spec(_PACKAGES[name]) is None:
            raise TrainingError(
                f"trackers: {name} needs the package {_PACKAGES[name]!r}; "
                f"pip install {_PACKAGES[name]}, or take {name} off the list"
            )


class Trackers:
    """Any number of them, told the same; none where the list is empty."""

    def __init__(
        self,
        names: Sequence[TrackerName],
        folder: Path,
        *,
        settings: Mapping[str, object],
        first_step: int,
    ) -> None:
        """Open them.

        Args:
            names: Which.
            folder: Each writes into a folder of its name in there.
            settings: Of the training, shown beside its curves.
            first_step: What was told of later updates does not count any more.
        """
        check_trackers(names)
        self._trackers = [_opened(name, folder, first_step) for name in names]
        for tracker in self._trackers:
            if tracker.name != "tensorboard":  # its table of settings wants a run of its own
                tracker.store_init_configuration({name: str(v) for name, v in settings.items()})

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Tell one update."""
        for tracker in self._trackers:
            tracker.log(dict(values), step=step)

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for tracker in self._trackers:
            tracker.finish()


def _opened(name: TrackerName, folder: Path, first_step: int) -> GeneralTracker:
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    kind = LOGGER_TYPE_TO_CLASS[name]
    if name == "tensorboard":
        tracker = kind(".", logging_dir=folder / name, purge_step=first_step)
    elif name == "mlflow":
        os.environ.setdefault("MLFLOW_TRACKING_URI", place.resolve().as_uri())
        tracker = kind(_PROJECT, logging_dir=place.resolve().as_uri(), run_name=folder.name)
    else:
        os.environ.setdefault("WANDB_MODE", "offline")
        tracker = kind(_PROJECT, dir=str(place), name=folder.name, resume="allow")
    tracker.start()
    return tracker
