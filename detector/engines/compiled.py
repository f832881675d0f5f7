"""Parts of a network compiled by torch, or left as they are where that cannot be done."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_MOST_UNLIKE = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Share of an output's norm by which compiling may change it: the last digits, and no more."""

_LOG = logging.getLogger(__name__)

Part = Callable[[Tensor], Any]
"""(B, ...) -> a tensor or several."""


@torch.inference_mode()
def compiled_parts(
    parts: Sequence[nn.Module], examples: Sequence[Tensor], backend: str
) -> list[Part]:
    """Parts compiled for inputs of all sizes; as they are, with a line in the log, if one fails.

    Each is tried at once: a compiler that is missing, or that computes something else, is found
    before the first photo. Batches of one and of several are two compilations, the former when it
    is needed.

    Args:
        parts: In evaluation mode, where they are to compute.
        examples: An input of at least two maps for each.
        backend: Of `torch.compile`.
    """
    from torch._dynamo.exc import TorchDynamoException  # takes seconds

    made: list[Part] = []
    for part, example in zip(parts, examples, strict=True):
        made.append(torch.compile(part, dynamic=True, backend=backend))
        try:
            found = made[-1](example)
        except TorchDynamoException as error:
            reason = " ".join(str(error).split("\n\n")[0].split())
            _LOG.warning("nothing is compiled: %s", reason)
            return list(parts)
        unlike = _difference(_several(found), _several(part(example)))
        if not unlike <= _MOST_UNLIKE[example.dtype]:
            name = type(part).__name__
            _LOG.warning("nothing is compiled: %s would be off by %.1g", name, unlike)
            return list(parts)
    return made


def _several(output: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    """All outputs of a part."""
    return [output] if isinstance(output, Tensor) else output


def _difference(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """Largest norm of a difference, by the norm of what was wanted."""
    return max(
        float((ours.float() - theirs.float()).norm() / theirs.float().norm().clamp(min=1e-12))
        for ours, theirs in zip(found, wanted, strict=True)
    )
