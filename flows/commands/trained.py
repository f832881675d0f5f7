"""What a finished run offers to commands that use it: its detector and its models."""

import json
from pathlib import Path

from flows.config import RunConfig, read_config
from flows.errors import MissingModelError
from flows.file_sources import with_local_files
from flows.run_folder import RunFolder
from storage.artifacts import read_done
from storage.sources import local_path


def config_of(run: Path) -> RunConfig:
    """The resolved configuration of a run, whatever it names elsewhere fetched.

    Raises:
        MissingModelError: There is no run.
        ConfigError: Its configuration is of another release.
    """
    path = RunFolder(run).config
    if not path.is_file():
        raise MissingModelError(f"{run}: no run here; train one first, for example with `demo`")
    return with_local_files(read_config(path))


def detector_of(run: Path) -> Path:
    """The folder of the detector that a run trained or was given.

    Raises:
        MissingModelError: There is none, or it is not finished.
    """
    config = config_of(run)
    if config.detector_weights is not None:
        return local_path(config.detector_weights)
    if config.data.regions:
        raise MissingModelError(f"{run}: learned from regions (data.regions), it has no detector")
    return output_of(run, "train_detector", "detector")


def model_of(run: Path, task: str) -> Path:
    """The model folder of a task.

    Raises:
        MissingModelError: The run does not train that task, or is not finished.
    """
    return output_of(run, f"{task}_train", "model")


def output_of(run: Path, step: str, output: str) -> Path:
    """An output of a finished step.

    Raises:
        MissingModelError: The run has no such step, or it is not finished.
    """
    try:
        folders = json.loads(RunFolder(run).steps.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MissingModelError(f"{run}: no run here; train one first, with `demo`") from error
    if step not in folders:
        raise MissingModelError(f"{run}: has no step {step}; it has {', '.join(folders)}")
    folder = run / str(folders[step])
    if read_done(folder) is None:
        raise MissingModelError(f"{run}: {step} is not finished; run its command again")
    return folder / output
