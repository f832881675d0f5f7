"""Stopping and going on: everything a run needs to continue as if it had not stopped.

One file, written beside its name and renamed, so that it is either the old one or the new one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from detector.errors import DetectorError
from storage.artifacts import atomic_path, atomic_write_text

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """State after `step` steps of a run (both phases counted together).

    identity:  of configuration and data; a checkpoint of another run is refused
    model:     state dict
    optimiser: state dict of the phase the next step belongs to; {} where that phase begins
    """

    step: int
    identity: str
    model: Mapping[str, Tensor]
    optimiser: Mapping[str, object]


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the folder's checkpoint."""
    with atomic_path(folder / CHECKPOINT) as partial, partial.open("wb") as file:
        torch.save(
            {
                "step": checkpoint.step,
                "identity": checkpoint.identity,
                "model": dict(checkpoint.model),
                "optimiser": dict(checkpoint.optimiser),
            },
            file,
        )


def read_checkpoint(folder: Path, identity: str) -> Checkpoint | None:
    """The folder's checkpoint, None if there is none.

    Raises:
        DetectorError: The file is damaged, or was written by another configuration or data.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint = Checkpoint(**content)
    except Exception as error:  # torch.load has no common class for what a cut file raises
        raise DetectorError(
            f"{path}: not a readable checkpoint ({type(error).__name__}); "
            "delete it and run the same command again to train from the start"
        ) from error
    if checkpoint.identity != identity:
        raise DetectorError(
            f"{path}: written with other settings or other photos; "
            "train into an empty folder, or delete the checkpoint"
        )
    return checkpoint


def remove_checkpoint(folder: Path) -> None:
    """Called when the finished weights lie in their place."""
    (folder / CHECKPOINT).unlink(missing_ok=True)


def trim_history(path: Path, step: int) -> None:
    """Drop the lines of the loss history that the run is about to write again.

    Args:
        path: JSON lines, each with "step"; need not be there.
        step: Steps that are done; later lines, and a line cut by a kill, go.
    """
    if not path.exists():
        return
    kept: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            number = json.loads(line)["step"]
        except (ValueError, KeyError, TypeError):
            continue
        if number <= step:
            kept.append(line + "\n")
    atomic_write_text(path, "".join(kept))
