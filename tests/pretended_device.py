"""A device that is none: its tensors lie in memory, and say they are elsewhere.

What a GPU refuses is refused here, too: operators between tensors of both places. What makes the
processor wait for a GPU is counted: numbers and copies that are asked for, tensors made of Python
numbers, and results whose size depends on values.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

PLACE = torch.device("cuda:0")
HERE = torch.device("cpu")
_WAITING = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::equal",
    "torchvision::nms",
}
_COPYING = {"aten::copy_", "aten::_to_copy", "aten::to"}


class Elsewhere(Tensor):
    """A tensor of the device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "Elsewhere":
        made: Elsewhere = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=PLACE,
        )
        made.held = held
        return made

    def __repr__(self) -> str:
        return f"Elsewhere({self.held})"

    @classmethod
    def __torch_dispatch__(cls, operator: Any, *_: Any, **__: Any) -> Any:
        raise AssertionError(f"{operator} outside of `pretended_device`")


@contextmanager
def pretended_device() -> Iterator[Counter[str]]:
    """Within it the device is there; counts waits by operator."""
    mode, initialise = _Mode(), torch.cuda._lazy_init
    torch._C._ensureCUDADeviceGuardSet()
    torch.cuda._lazy_init = lambda: None
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with mode:
            yield mode.waits
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)
        torch.cuda._lazy_init = initialise


class _Mode(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        operator: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        with self:
            parts = operator.decompose(*args, **named)
        if parts is not NotImplemented:
            return parts
        name: str = operator._schema.name
        leaves = tree_leaves([list(args), named])
        tensors = [each for each in leaves if isinstance(each, Tensor)]
        places = {each.device for each in tensors if each.dim() > 0 or each.device == PLACE}
        if len(places) > 1 and name not in _COPYING and "index" not in name:
            raise RuntimeError(f"{name}: tensors of {places}")
        asked = [each for each in leaves if isinstance(each, torch.device)]
        place = asked[0] if asked else PLACE if PLACE in places else HERE
        if PLACE in places and name in _WAITING:
            self.waits[name] += 1
        if name in _COPYING and len(places | {place}) > 1:
            self.waits[name] += 1
        result = operator(*tree_map(_held, list(args)), **tree_map(_held, named))
        if place == HERE:
            return result
        if operator._schema.is_mutable:
            return named.get("out", args[0])
        return tree_map(_elsewhere, result)


def _held(value: Any) -> Any:
    if isinstance(value, torch.device):
        return HERE
    return value.held if isinstance(value, Elsewhere) else value


def _elsewhere(value: Any) -> Any:
    return Elsewhere(value) if isinstance(value, Tensor) else value
