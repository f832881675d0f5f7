"""One file a checkpoint: weights, optimiser and place in the training, appearing by rename.

Weights and moments are safetensors, so reading one runs no code. The last two are kept: a disk
that spoils the newest costs the way back to the one before.
"""

import json
import logging
import re
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from oscar_core.errors import TrainingError
from oscar_core.training.optimiser import PublishedAdamW
from storage.artifacts import atomic_path

NUM_KEPT = 2
MOMENTS = ("mean", "square")
"""What the optimiser remembers of each parameter, besides its age."""

_NAME = re.compile(r"checkpoint-(\d{7})\.safetensors")
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


def save_checkpoint(folder: Path, model: nn.Module, optimiser: PublishedAdamW, at: Place) -> Path:
    """Write a checkpoint, then delete all but the last `NUM_KEPT`.

    Raises:
        OSError: It cannot be written; the older ones stay.
    """
    tensors = {f"model.{name}": value for name, value in distinct(model).items()}
    ages: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        state = optimiser.state.get(parameter)
        if state:
            ages[name] = state["step"]
            tensors |= {f"{moment}.{name}": state[moment] for moment in MOMENTS}
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    state = {"place": asdict(at), "ages": ages, "checksum": _checksum(tensors)}
    path = folder / f"checkpoint-{at.step:07d}.safetensors"
    with atomic_path(path) as partial:
        save_file(tensors, partial, metadata={_STATE: json.dumps(state)})
    for older in [each for each in checkpoint_paths(folder) if each != path][: 1 - NUM_KEPT]:
        older.unlink(missing_ok=True)
    return path


def load_checkpoint(
    folder: Path, model: nn.Module, optimiser: PublishedAdamW, identity: str
) -> Place:
    """Continue from the newest whole checkpoint; the beginning if there is none.

    A damaged one is told in the log and passed over.

    Returns:
        Where the training stands; model and optimiser hold its values.

    Raises:
        TrainingError: The newest one is of another training, or cannot be read at all.
    """
    for path in reversed(checkpoint_paths(folder)):
        try:
            tensors, at, ages = _read(path)
        except _DamagedError as error:
            _LOG.warning("%s: damaged (%s); going back to what lies before it", path, error)
            continue
        if at.identity != identity:
            raise TrainingError(
                f"{path}: written with other settings or examples; delete it to start anew"
            )
        try:
            _restore(model, optimiser, tensors, ages)
        except (KeyError, RuntimeError) as error:
            raise TrainingError(f"{path}: does not fit the model ({error}); delete it") from error
        return at
    return Place(identity=identity)


def checkpoint_paths(folder: Path) -> list[Path]:
    """Checkpoints of a folder by step."""
    return sorted(path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name))


def remove_checkpoints(folder: Path) -> None:
    """Delete all checkpoints of a finished training, and their folder where nothing else is in."""
    for path in checkpoint_paths(folder):
        path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def distinct(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, tied ones once."""
    return dict(model.named_parameters()) | dict(model.named_buffers())


def _restore(
    model: nn.Module, optimiser: PublishedAdamW, tensors: dict[str, Tensor], ages: dict[str, int]
) -> None:
    with torch.no_grad():
        for name, value in distinct(model).items():
            value.copy_(tensors[f"model.{name}"])
    for name, parameter in model.named_parameters():
        if name in ages:
            moments = {each: tensors[f"{each}.{name}"].to(parameter.device) for each in MOMENTS}
            optimiser.state[parameter] = {"step": ages[name], **moments}


def _read(path: Path) -> tuple[dict[str, Tensor], Place, dict[str, int]]:
    try:
        with safe_open(path, framework="pt") as stream:
            state = json.loads(stream.metadata()[_STATE])
            names = stream.keys()  # a safetensors handle is no mapping and cannot be iterated
            tensors = {name: stream.get_tensor(name).clone() for name in names}
        place = state["place"] | {"phase_starts": tuple(state["place"]["phase_starts"])}
        if state["checksum"] != _checksum(tensors):
            raise _DamagedError("its bytes are not those that were written")
        return tensors, Place(**place), state["ages"]
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
