"""One file a checkpoint: weights, optimiser and place in the training, appearing by rename.

All of it is safetensors, so reading one runs no code. The last two are kept: a disk that spoils
the newest costs the way back to the one before. No state of a random generator is stored, as every
draw follows from the seed and the place.
"""

import json
import logging
import re
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from oscar_core.errors import TrainingError
from oscar_core.training.learner import Learner, gathered
from oscar_core.training.tensor_file import write_tensors
from storage.artifacts import atomic_path, remove_partials

NUM_KEPT = 2

_NAME = re.compile(r"checkpoint-(\d{7,})\.safetensors")
_STATE = "oscar_training"
_LOG = logging.getLogger(__name__)


class _DamagedError(Exception):
    """A checkpoint's bytes are not those that were written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How far a training is; the order of examples and all dice follow from it.

    identity:     of the settings and examples; another training's checkpoint does not fit
    step:         updates done
    phase_starts: `step` at which each phase so far began
    """

    identity: str
    step: int = 0
    phase_starts: tuple[int, ...] = (0,)

    @property
    def phase(self) -> int:
        """Number of the phase under way."""
        return len(self.phase_starts) - 1

    @property
    def phase_start(self) -> int:
        """`step` at which it began."""
        return self.phase_starts[-1]

    @classmethod
    def from_json(cls, place: Mapping[str, Any]) -> "Place":
        """What `asdict` made, after JSON turned tuples into lists."""
        return cls(**{**place, "phase_starts": tuple(place["phase_starts"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A learner at one place, in memory of its own, whole.

    tensors: by the names of `Learner.values`
    ages:    parameter name -> updates it took part in
    scale:   see `LossScale.state`
    """

    at: Place
    tensors: dict[str, Tensor]
    ages: dict[str, int]
    scale: dict[str, float]


@torch.no_grad()
def take_snapshot(learner: Learner, at: Place, into: Snapshot | None = None) -> Snapshot:
    """Copy everything to the processor's memory, so that the training may go on.

    Args:
        learner: Sharded ones are gathered: all processes call it alike.
        at: Where it stands.
        into: An earlier snapshot that nobody needs any more, whose memory is used again.
    """
    old = into.tensors if into is not None else {}
    tensors = {}
    for name, value in gathered(learner).items():
        room = old.get(name)
        if room is None or room.shape != value.shape or room.dtype != value.dtype:
            room = torch.empty(value.shape, dtype=value.dtype)
        tensors[name] = room.copy_(value)
    return Snapshot(at=at, tensors=tensors, ages=learner.ages(), scale=learner.scale.state())


def write_snapshot(folder: Path, snapshot: Snapshot, keep_last: int = NUM_KEPT) -> Path:
    """Write a checkpoint, then delete all but the last `keep_last`.

    Raises:
        OSError: It cannot be written; the older ones stay.
    """
    state = {
        "place": asdict(snapshot.at),
        "ages": snapshot.ages,
        "scale": snapshot.scale,
        "checksum": _checksum(snapshot.tensors),
    }
    path = folder / f"checkpoint-{snapshot.at.step:07d}.safetensors"
    with atomic_path(path) as partial:
        write_tensors(partial, snapshot.tensors, {_STATE: json.dumps(state)})
    others = [each for each in checkpoint_paths(folder) if each != path]
    for older in others[: max(0, len(others) + 1 - keep_last)]:
        older.unlink(missing_ok=True)
    return path


def save_checkpoint(folder: Path, learner: Learner, at: Place, keep_last: int = NUM_KEPT) -> Path:
    """Write a checkpoint and wait for it. Raises as `write_snapshot`."""
    return write_snapshot(folder, take_snapshot(learner, at), keep_last)


def load_checkpoint(folder: Path, learner: Learner, identity: str) -> Place:
    """Continue from the newest whole checkpoint; the beginning if there is none.

    A damaged one is told in the log and passed over; what a kill left half written goes.

    Args:
        folder: Of the checkpoints.
        learner: Takes over its values; not yet sharded.
        identity: Of the training.

    Returns:
        Where the training stands.

    Raises:
        TrainingError: The newest one is of another training, or cannot be read at all.
    """
    remove_partials(folder)
    for path in reversed(checkpoint_paths(folder)):
        try:
            snapshot = _read(path)
        except _DamagedError as error:
            _LOG.warning("%s: damaged (%s); going back to what lies before it", path, error)
            continue
        if snapshot.at.identity != identity:
            raise TrainingError(
                f"{path}: written with other settings or examples; delete it to start anew"
            )
        try:
            _restore(learner, snapshot)
        except (KeyError, RuntimeError) as error:
            raise TrainingError(f"{path}: does not fit the model ({error}); delete it") from error
        return snapshot.at
    return Place(identity=identity)


def checkpoint_paths(folder: Path) -> list[Path]:
    """Checkpoints of a folder by step."""
    found = {int(name[1]): path for path in folder.glob("checkpoint-*") if (name := _named(path))}
    return [found[step] for step in sorted(found)]


def remove_checkpoints(folder: Path) -> None:
    """Delete all checkpoints of a finished training, and their folder where nothing else is in."""
    remove_partials(folder)
    for path in checkpoint_paths(folder):
        path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _named(path: Path) -> re.Match[str] | None:
    return _NAME.fullmatch(path.name)


@torch.no_grad()
def _restore(learner: Learner, snapshot: Snapshot) -> None:
    learner.remember(snapshot.ages)
    for name, (value, _) in learner.values().items():
        value.copy_(snapshot.tensors[name])
    learner.scale.restore(snapshot.scale)


def _read(path: Path) -> Snapshot:
    try:
        with safe_open(path, framework="pt") as stream:
            state = json.loads(stream.metadata()[_STATE])
            names = stream.keys()  # a safetensors handle is no mapping and cannot be iterated
            tensors = {name: stream.get_tensor(name).clone() for name in names}
        if state["checksum"] != _checksum(tensors):
            raise _DamagedError("its bytes are not those that were written")
        place = Place.from_json(state["place"])
        return Snapshot(at=place, tensors=tensors, ages=state["ages"], scale=state["scale"])
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read ({error}); delete it to start anew") from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise _DamagedError(str(error)) from error


def _checksum(tensors: dict[str, Tensor]) -> int:
    """CRC-32 over all values by name; tells spoiled bytes, no more."""
    value = 0
    for name in sorted(tensors):
        values = tensors[name].reshape(-1).view(torch.uint8).numpy()
        value = zlib.crc32(values.data, zlib.crc32(name.encode(), value))
    return value
