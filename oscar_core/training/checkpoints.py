"""One file a checkpoint: weights, optimiser and place in the training, appearing by rename.

Weights and moments are safetensors, so reading one runs no code.
"""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from oscar_core.errors import TrainingError
from oscar_core.training.optimiser import PublishedAdamW
from storage.artifacts import atomic_path

_NAME = re.compile(r"checkpoint-(\d{7})\.safetensors")
_STATE = "oscar_training"
_MOMENTS = ("mean", "square")


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
    """Write a checkpoint, then delete the older ones.

    Raises:
        OSError: It cannot be written; the older ones stay.
    """
    tensors = {f"model.{name}": value for name, value in _distinct(model).items()}
    ages: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        state = optimiser.state.get(parameter)
        if state:
            ages[name] = state["step"]
            tensors |= {f"{moment}.{name}": state[moment] for moment in _MOMENTS}
    path = folder / f"checkpoint-{at.step:07d}.safetensors"
    with atomic_path(path) as partial:
        save_file(
            {name: value.contiguous() for name, value in tensors.items()},
            partial,
            metadata={_STATE: json.dumps({"place": asdict(at), "ages": ages})},
        )
    for older in checkpoint_paths(folder):
        if older != path:
            older.unlink(missing_ok=True)
    return path


def load_checkpoint(
    folder: Path, model: nn.Module, optimiser: PublishedAdamW, identity: str
) -> Place:
    """Continue from the newest checkpoint; the beginning if there is none.

    Returns:
        Where the training stands; model and optimiser hold its values.

    Raises:
        TrainingError: The newest one is damaged, or of another training.
    """
    paths = checkpoint_paths(folder)
    if not paths:
        return Place(identity=identity)
    tensors, at, ages = _read(paths[-1])
    if at.identity != identity:
        raise TrainingError(
            f"{paths[-1]}: written with other settings or examples; delete it to start anew"
        )
    try:
        with torch.no_grad():
            for name, value in _distinct(model).items():
                value.copy_(tensors[f"model.{name}"])
            for name, parameter in model.named_parameters():
                if name in ages:
                    moments = {each: tensors[f"{each}.{name}"].clone() for each in _MOMENTS}
                    optimiser.state[parameter] = {"step": ages[name], **moments}
    except (KeyError, RuntimeError) as error:
        raise TrainingError(f"{paths[-1]}: does not fit the model ({error}); delete it") from error
    return at


def checkpoint_paths(folder: Path) -> list[Path]:
    """Checkpoints of a folder by step."""
    return sorted(path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name))


def remove_checkpoints(folder: Path) -> None:
    """Delete all checkpoints of a finished training."""
    for path in checkpoint_paths(folder):
        path.unlink(missing_ok=True)


def _distinct(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, tied ones once."""
    return dict(model.named_parameters()) | dict(model.named_buffers())


def _read(path: Path) -> tuple[dict[str, Tensor], Place, dict[str, int]]:
    try:
        with safe_open(path, framework="pt") as stream:
            state = json.loads(stream.metadata()[_STATE])
            names = stream.keys()  # a safetensors handle is no mapping and cannot be iterated
            tensors = {name: stream.get_tensor(name) for name in names}
        place = state["place"] | {"phase_starts": tuple(state["place"]["phase_starts"])}
        return tensors, Place(**place), state["ages"]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path}: damaged ({error}); delete it to start anew") from error
