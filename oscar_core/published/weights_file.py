"""Tensors of a published checkpoint, read without running what the file says.

`model.safetensors` is preferred to `pytorch_model.bin`; of the latter torch unpickles tensors and
plain containers alone. `training_args.bin` and other pickles beside them are never opened.
"""

import errno
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from oscar_core.errors import WeightsError

SAFETENSORS, PICKLED = "model.safetensors", "pytorch_model.bin"
_UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    OverflowError,
    MemoryError,
    UnpicklingError,
    SafetensorError,
    struct.error,
)
"""What torch and safetensors raise for files that are cut, damaged or hostile."""

_SIGNS_OF_CODE = (
    "Unsupported global",
    "unsupported GLOBAL",
    "Unsupported class",
    "Unsupported operand 149",  # a frame of a later pickle: torch.save writes none
    "Can only build",
    "Can only create",
    "Trying to call reduce",
)
_SIGNS_OF_A_CUT = (
    "PytorchStreamReader",
    "unexpected EOF",
    "pickle data was truncated",
    "header too small",
    "invalid header length",
    "incomplete metadata",
)
"""In the messages of torch and safetensors."""


def weights_file(folder: Path) -> Path:
    """The file of a folder that holds its tensors; a file is taken as it is.

    Raises:
        WeightsError: There is none.
    """
    if folder.is_file():
        return folder
    for name in (SAFETENSORS, PICKLED):
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(
        f"{folder}: neither {SAFETENSORS} nor {PICKLED} in it; want the folder of a published model"
    )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a file by its name there, in the file's order.

    Raises:
        WeightsError: The file is no checkpoint, is damaged, or holds more than tensors.
    """
    try:
        state = load_file(path) if path.suffix == ".safetensors" else load_plain(path)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    if not isinstance(state, Mapping) or not state:
        raise WeightsError(f"{path}: holds {type(state).__name__}, want tensors by name")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise WeightsError(
                f"{path}: entry {name!r} is {type(value).__name__}, want tensors by name; "
                "is it a checkpoint of another program?"
            )
    return dict(state)


def load_plain(path: Path) -> Any:
    """What torch stored in a file, tensors and plain containers alone.

    Raises:
        WeightsError: The file is damaged, or holds more than that.
    """
    try:
        with warnings.catch_warnings():  # about pickles that it then refuses, or reads
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> WeightsError:
    """One line in place of torch's explanations, which fill a screen and advise to run the file."""
    said = str(error).strip()
    if any(sign in said for sign in _SIGNS_OF_CODE):
        return WeightsError(
            f"{path}: holds code or objects of a program beside tensors; refused, nothing of it "
            "was run; want tensors by name, as torch.save of a state_dict or safetensors writes"
        )
    looks_behind = isinstance(error, OSError) and error.errno == errno.EINVAL
    if (
        looks_behind
        or isinstance(error, EOFError | struct.error)
        or any(sign in said for sign in _SIGNS_OF_A_CUT)
    ):
        return WeightsError(
            f"{path}: cut short or damaged, {path.stat().st_size:,} bytes; fetch it again"
        )
    if isinstance(error, UnpicklingError | KeyError):
        said = "neither a file of torch nor of safetensors; is it a web page or a pointer to one?"
    reason = (said or type(error).__name__).splitlines()[0]
    return WeightsError(f"{path}: no tensors can be read from it ({reason})")
