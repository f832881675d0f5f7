"""Stopping and going on: everything a run needs to continue as if it had not stopped.

One file, written beside its name and renamed, so that it is either the old one or the new one; the
one before it is kept, so that a disk that spoils the newest costs the way back to that.
"""

import io
import json
import logging
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from detector.errors import DamagedCheckpointError, DetectorError
from storage.artifacts import atomic_path, atomic_write_text

CHECKPOINT = "checkpoint.pt"
BEFORE = "checkpoint-before.pt"
_LOG = logging.getLogger(__name__)


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
    """Write the folder's checkpoint; the one there was becomes the one before."""
    with atomic_path(folder / CHECKPOINT) as partial:
        with partial.open("wb") as file:
            _save(checkpoint, file)
        if (folder / CHECKPOINT).exists():
            os.replace(folder / CHECKPOINT, folder / BEFORE)


def latest_checkpoint(folder: Path, identity: str) -> Checkpoint | None:
    """The newest whole checkpoint, None if there is none; a damaged one is told in the log.

    Raises:
        DetectorError: It was written by another configuration or data.
    """
    for name in (CHECKPOINT, BEFORE):
        try:
            found = read_checkpoint(folder, identity, name)
        except DamagedCheckpointError as error:
            _LOG.warning("%s; going back to what lies before it", error)
            continue
        if found is not None:
            return found
    return None


def read_checkpoint(folder: Path, identity: str, name: str = CHECKPOINT) -> Checkpoint | None:
    """A checkpoint of the folder, None if there is none of that name.

    Raises:
        DamagedCheckpointError: The file is damaged.
        DetectorError: It was written by another configuration or data.
    """
    path = folder / name
    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as archive:  # torch itself compares no checksums
            spoiled = archive.testzip()
        if spoiled is not None:
            raise ValueError(f"{spoiled} is spoiled")
        with path.open("rb") as file:
            checkpoint = checkpoint_from(file)
    except Exception as error:  # torch.load has no common class for what a cut file raises
        raise DamagedCheckpointError(
            f"{path}: not a readable checkpoint ({type(error).__name__})"
        ) from error
    if checkpoint.identity != identity:
        raise DetectorError(
            f"{path}: written with other settings or other photos; "
            "train into an empty folder, or delete the checkpoint"
        )
    return checkpoint


def checkpoint_bytes(checkpoint: Checkpoint) -> bytes:
    """A checkpoint as it would lie on disk, for another process."""
    file = io.BytesIO()
    _save(checkpoint, file)
    return file.getvalue()


def checkpoint_from(file: IO[bytes]) -> Checkpoint:
    """A checkpoint out of what was written of it, its tensors on the CPU.

    Raises:
        Exception: Whatever torch raises where it is none.
    """
    return Checkpoint(**torch.load(file, map_location="cpu", weights_only=True))


def remove_checkpoint(folder: Path) -> None:
    """Called when the finished weights lie in their place."""
    for name in (CHECKPOINT, BEFORE):
        (folder / name).unlink(missing_ok=True)


def _save(checkpoint: Checkpoint, file: IO[bytes]) -> None:
    torch.save(
        {
            "step": checkpoint.step,
            "identity": checkpoint.identity,
            "model": dict(checkpoint.model),
            "optimiser": dict(checkpoint.optimiser),
        },
        file,
    )


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
