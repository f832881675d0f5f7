"""Files of weights as other programs write them, read without running what they say.

A file maps names to tensors, or {model, optimizer, scheduler, iteration} around such a mapping.
"""

import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from detector.errors import CheckpointError

_WRAPPED = "module."  # distributed training prepends it to every name
_REFUSED = re.compile(r"GLOBAL (\S+) was not an allowed global")
_BESIDE = (
    *("torch.optim.", "maskrcnn_benchmark.", "fvcore.", "yacs.", "argparse.", "numpy."),
    *("collections.", "builtins.dict", "builtins.list", "builtins.getattr", "_codecs."),
)
"""Where objects beside the weights come from: optimizers, schedules, settings, counters."""
_MOST_KINDS = 40
_AROUND = ("model", "state_dict")
"""Keys under which a file may hold its tensors, beside other things."""
_BEGINNINGS = (b"PK", b"\x80")
"""Of the archives of torch, and of the pickles of torch before 1.6."""
MOST_COPIES = 4
"""Times the size of a file that its tensors may have; the same one may go by several names."""


class _Nothing:
    """Stands in for an object of another program; it keeps nothing and does nothing."""

    def __new__(cls, *args: object) -> Any:
        """A mapping, which may be filled: most such objects are."""
        return OrderedDict()


class _Opaque:
    """Stands in for an object with a state of its own form."""

    def __new__(cls, *args: object) -> Any:
        return object.__new__(cls)

    def __setstate__(self, state: object) -> None:
        """The state is passed over."""


def read_published_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a published file (safetensors, or a PyTorch file), without `module.`.

    Objects beside the weights (optimizer, schedule, settings) are passed over, their code is
    neither needed nor run. Numbers of any precision become float32.

    Raises:
        CheckpointError: It is damaged or cut, cannot be read, or holds something else than tensors
            of finite numbers by name.
    """
    try:
        if path.suffix == ".safetensors":
            with path.open("rb"):  # safetensors calls a file missing that it may not read
                content = load_file(path)
        else:
            _check_whole(path)
            content = _load(path)
    except CheckpointError:
        raise
    except zipfile.BadZipFile as error:
        raise CheckpointError(f"{path}: damaged; download it again") from error
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: cannot be read as weights: {reason}") from error
    except Exception as error:  # unpickling errors have no common base but this
        raise CheckpointError(
            f"{path}: not a plain file of tensors; convert it to safetensors where you trust it"
        ) from error
    weights = _tensors_in(content, path)
    _check_plain(weights, path)
    return without_wrapping(finite_numbers(weights, path))


def finite_numbers(weights: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The weights in float32; whole numbers (counters) stay.

    Raises:
        CheckpointError: One of them is infinite or no number.
    """
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise CheckpointError(
                f"{path}: tensor {name!r} holds numbers that are not finite; "
                "take an earlier checkpoint or download the file again"
            )
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in weights.items()
    }


def _tensors_in(content: object, path: Path) -> dict[str, Tensor]:
    """Names and tensors of a file's content.

    Raises:
        CheckpointError: There are none.
    """
    found = content if isinstance(content, dict) else {}
    for weights in (*(found.get(key) for key in _AROUND), found):
        if (
            weights
            and isinstance(weights, dict)
            and all(isinstance(name, str) for name in weights)
            and all(isinstance(tensor, Tensor) for tensor in weights.values())
        ):
            return weights
    there = ", ".join(str(key) for key in list(found)[:5]) or type(content).__name__
    raise CheckpointError(
        f"{path}: does not map names to tensors, neither itself nor under "
        f"{' or '.join(map(repr, _AROUND))}; it holds {there}"
    )


def _check_whole(path: Path) -> None:
    """Compare checksums, which torch itself does not.

    Raises:
        CheckpointError: The file is damaged, compressed, or something else than weights.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(2)
    if not head.startswith(_BEGINNINGS):
        raise CheckpointError(
            f"{path}: no file of weights but something else or nothing; download it again, or name "
            "another"
        )
    if not zipfile.is_zipfile(path):
        if head.startswith(b"PK"):
            raise CheckpointError(f"{path}: cut; download it again")
        return  # the layout of torch before 1.6 has no checksums
    with zipfile.ZipFile(path) as archive:
        if any(each.compress_type != zipfile.ZIP_STORED for each in archive.infolist()):
            raise CheckpointError(f"{path}: compressed, which torch never does; unpack it")
        spoiled = archive.testzip()
    if spoiled is not None:
        raise CheckpointError(f"{path}: damaged at {spoiled}; download it again")


def without_wrapping(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names without `module.`, where all of them have it."""
    if weights and all(name.startswith(_WRAPPED) for name in weights):
        return {name.removeprefix(_WRAPPED): tensor for name, tensor in weights.items()}
    return dict(weights)


def _check_plain(weights: Mapping[str, Tensor], path: Path) -> None:
    """Tensors must be plain numbers in memory, and together not much larger than their file.

    A few bytes that are told to repeat themselves would otherwise fill the memory later.

    Raises:
        CheckpointError: They are not.
    """
    for name, tensor in weights.items():
        is_plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not is_plain or tensor.is_quantized or tensor.is_complex():
            raise CheckpointError(f"{path}: tensor {name!r} is no plain array of numbers")
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    if num_bytes > MOST_COPIES * path.stat().st_size:
        raise CheckpointError(
            f"{path}: {num_bytes} bytes of tensors in a smaller file; it is no file of weights"
        )


def _load(path: Path) -> Any:
    """The content of a PyTorch file; objects of known programs come as nothing."""
    stand_ins: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = []
    names: set[str] = set()
    while True:
        try:
            with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            name = _refused_name(str(error))
            if not name.startswith(_BESIDE) or name in names or len(names) == _MOST_KINDS:
                raise
            names.add(name)
            kind = _Opaque if name.startswith("numpy.") else _Nothing
            stand_ins.append((type(kind.__name__, (kind,), {}), name))


def _refused_name(message: str) -> str:
    """The class or function at which torch stopped; "" if it stopped for another reason."""
    found = _REFUSED.search(message)
    name = found[1] if found else ""
    return name if "." in name or not name else f"builtins.{name}"
