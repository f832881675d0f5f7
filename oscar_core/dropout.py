"""Dropout whose dice cost little on a processor.

`torch` draws a random number for each element; here 16 bits decide, cut from the words of a fast
generator that is itself seeded by torch's. So `torch.manual_seed` still fixes every mask, and a
recomputed layer (gradient checkpointing) drops what it dropped before.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

_DICE = 1 << 16
_PER_WORD = 4  # dice in a word of 64 bits


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` with cheap dice on a processor."""

    def forward(self, input: Tensor) -> Tensor:  # torch's own name
        """Drop elements while training; leave them alone otherwise."""
        return dropout(input, self.p if self.training else 0.0)


def dropout(states: Tensor, probability: float) -> Tensor:
    """Put 0 in the place of some elements and scale the others, so that the mean stays.

    On a processor the probability is rounded to a multiple of 1 / 65536 and the scale is that of
    the rounded one. Elsewhere, and inside `torch.compile`, this is torch's own.

    Args:
        states: Any shape, floating.
        probability: Of an element to be dropped, 0..1.
    """
    if probability == 0.0:
        return states
    if not has_cheap_dice(states) or probability == 1.0:
        return functional.dropout(states, probability)
    is_kept = drawn(states.shape, probability)
    return cast(Tensor, _Dropped.apply(states, is_kept, scale(probability)))


def has_cheap_dice(states: Tensor) -> bool:
    """Whether `drawn` is the faster way to drop some of these."""
    return states.device.type == "cpu" and not torch.compiler.is_compiling()


def drawn(shape: Sequence[int], probability: float) -> Tensor:
    """Throw the dice: bool of `shape` in the processor's memory, False where to drop.

    Args:
        shape: Any.
        probability: Above 0 and below 1.
    """
    size = int(np.prod(shape, dtype=np.int64))
    seed = int(torch.empty((), dtype=torch.int64).random_())
    words = np.random.SFC64(seed).random_raw(-(-size // _PER_WORD))
    dice = words.view(np.int16)[:size]
    is_kept = np.greater_equal(dice, np.int16(_threshold(probability) - _DICE // 2))
    return torch.from_numpy(is_kept).view(*shape)


def as_factors(is_kept: Tensor, dtype: torch.dtype) -> Tensor:
    """1 where kept, 0 where dropped; by way of bytes, which torch turns to floats faster."""
    return is_kept.view(torch.uint8).to(dtype)


def scale(probability: float) -> float:
    """What the elements that stay are multiplied by; 1 where none is dropped."""
    return _DICE / (_DICE - _threshold(probability)) if probability else 1.0


def _threshold(probability: float) -> int:
    return min(max(round(probability * _DICE), 1), _DICE - 1)


class _Dropped(torch.autograd.Function):
    """states, 0 where dropped, times the scale."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, is_kept: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(is_kept)
        ctx.factor = factor
        return as_factors(is_kept, states.dtype).mul_(factor).mul_(states)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (is_kept,) = ctx.saved_tensors
        return gradient * as_factors(is_kept, gradient.dtype).mul_(ctx.factor), None, None
