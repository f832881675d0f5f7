"""Dropout, residual sum and LayerNorm of a Transformer layer in as few passes as torch has.

Letters: N positions, H width.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from oscar_core.dropout import as_factors, drawn, dropout, has_cheap_dice, scale


def drop_add_norm(
    states: Tensor, residual: Tensor, norm: nn.LayerNorm, probability: float
) -> Tensor:
    """LayerNorm(dropout(states) + residual).

    Args:
        states: (N, H) what a layer's part gives.
        residual: (N, H) what it was given.
        norm: With weight and bias.
        probability: Of an element of `states` to be dropped; 0 outside training.
    """
    if not has_cheap_dice(states) or not 0.0 < probability < 1.0:
        summed: Tensor = norm(dropout(states, probability) + residual)
        return summed
    is_kept = drawn(states.shape, probability)
    factor = scale(probability)
    found = _Fused.apply(states, residual, norm.weight, norm.bias, is_kept, norm.eps, factor)
    return cast(Tensor, found)


class _Fused(torch.autograd.Function):
    """The three at once; of the first two only their sum and the dice are remembered."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        residual: Tensor,
        weight: Tensor,
        bias: Tensor,
        is_kept: Tensor,
        eps: float,
        factor: float,
    ) -> Tensor:
        kept = as_factors(is_kept, residual.dtype)
        summed = torch.addcmul(residual, states.to(residual.dtype), kept, value=factor)
        normed, mean, deviation = torch.native_layer_norm(
            summed, summed.shape[-1:], weight, bias, eps
        )
        ctx.save_for_backward(summed, mean, deviation, weight, bias, is_kept)
        ctx.factor, ctx.dtype = factor, states.dtype
        return normed

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        summed, mean, deviation, weight, bias, is_kept = ctx.saved_tensors
        inner, of_weight, of_bias = torch.ops.aten.native_layer_norm_backward(
            gradient, summed, summed.shape[-1:], mean, deviation, weight, bias, [True, True, True]
        )
        outer = as_factors(is_kept, inner.dtype).mul_(ctx.factor).mul_(inner)
        return outer.to(ctx.dtype), inner, of_weight, of_bias, None, None, None
