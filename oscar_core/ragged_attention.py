"""Attention among the positions of each example, all examples lying in a row without padding.

Letters: M queries and N keys of all examples together, m and n those of one example, B examples,
H width, A heads, D = H / A.
"""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from oscar_core.dropout import as_factors, drawn, has_cheap_dice, scale

_WORTH_A_CALL = 1 << 15
"""Scores of one example from which on its own matrix products cost less than padding does."""


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    num_heads: int,
    num_queries: Sequence[int],
    num_keys: Sequence[int],
    dropout: float,
) -> Tensor:
    """Let the queries of each example look at its own keys.

    Args:
        queries: (M, H) one example after the other.
        keys: (N, H) likewise.
        values: (N, H).
        num_heads: A.
        num_queries: Of each of the B examples; they add up to M.
        num_keys: Of each of the B examples; they add up to N.
        dropout: Probability of an attention weight to be dropped; 0 outside training.

    Returns:
        (M, H) attended values, heads merged.
    """
    sizes = [num_heads * m * n for m, n in zip(num_queries, num_keys, strict=True)]
    is_worth_it = sum(sizes) >= _WORTH_A_CALL * len(sizes)
    if has_cheap_dice(queries) and queries.dtype == torch.float32 and is_worth_it and dropout < 1.0:
        found = _EachAlone.apply(queries, keys, values, num_heads, num_queries, num_keys, dropout)
        return cast(Tensor, found)
    return _padded(queries, keys, values, num_heads, num_queries, num_keys, dropout)


def _padded(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    num_heads: int,
    num_queries: Sequence[int],
    num_keys: Sequence[int],
    dropout: float,
) -> Tensor:
    """All examples at once, filled up to the longest."""
    is_query = _is_there(num_queries, queries.device)
    is_key = _is_there(num_keys, keys.device)

    def spread(rows: Tensor, is_there: Tensor) -> Tensor:
        filled = rows.new_zeros((*is_there.shape, rows.shape[-1]))
        filled[is_there] = rows
        return filled.view(*is_there.shape, num_heads, -1).transpose(1, 2)

    context = functional.scaled_dot_product_attention(
        spread(queries, is_query),
        spread(keys, is_key),
        spread(values, is_key),
        attn_mask=is_key[:, None, None, :],
        dropout_p=dropout,
    )
    return context.transpose(1, 2)[is_query].flatten(1)


def _is_there(lengths: Sequence[int], device: torch.device) -> Tensor:
    """(B, longest) bool: the places that hold something."""
    places = torch.arange(max(lengths), device=device)
    return places < torch.tensor(lengths, device=device)[:, None]


class _EachAlone(torch.autograd.Function):
    """Each example by itself: its scores stay in the cache, and nothing is copied or padded."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        num_heads: int,
        num_queries: Sequence[int],
        num_keys: Sequence[int],
        dropout: float,
    ) -> Tensor:
        cut = _Cut(num_heads, num_queries, num_keys)
        weights = queries.new_empty(cut.num_scores)
        is_kept = drawn([cut.num_scores], dropout) if dropout else None
        context = torch.empty_like(queries)
        shrink = 1 / math.sqrt(queries.shape[-1] // num_heads)
        for number, (q, k, v, c) in enumerate(cut.examples(queries, keys, values, context)):
            own = cut.scores(weights, number)
            torch.baddbmm(own, q, k.mT, beta=0, alpha=shrink, out=own)
            torch.softmax(own, -1, out=own)
            seen = own if is_kept is None else _kept(own, cut.scores(is_kept, number))
            c.copy_(_times(seen, v, scale(dropout)))
        ctx.save_for_backward(queries, keys, values, weights, is_kept)
        ctx.cut, ctx.shrink, ctx.stretch = cut, shrink, scale(dropout)
        return context

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, weights, is_kept = ctx.saved_tensors
        cut: _Cut = ctx.cut
        found = torch.empty_like(queries), torch.empty_like(keys), torch.empty_like(values)
        given = cut.examples(queries, keys, values, gradient.contiguous())
        for number, ((q, k, v, g), (dq, dk, dv, _)) in enumerate(
            zip(given, cut.examples(*found, queries), strict=True)
        ):
            own = cut.scores(weights, number)
            mask = None if is_kept is None else cut.scores(is_kept, number)
            seen = own if mask is None else _kept(own, mask)
            dv.copy_(_times(seen.mT, g, ctx.stretch))
            wanted = _times(g, v.mT, ctx.stretch)
            wanted = wanted if mask is None else _kept(wanted, mask)
            scores = torch._softmax_backward_data(wanted, own, -1, own.dtype)
            dq.copy_(_times(scores, k, ctx.shrink))
            dk.copy_(_times(scores.mT, q, ctx.shrink))
        return (*found, None, None, None, None)


def _times(left: Tensor, right: Tensor, factor: float) -> Tensor:
    """(A, a, b), (A, b, c) -> (A, a, c)."""
    # not into a view with `out`: torch would then go head by head
    return torch.baddbmm(left.new_empty(()), left, right, beta=0, alpha=factor)


def _kept(weights: Tensor, is_kept: Tensor) -> Tensor:
    """(A, m, n): 0 where dropped."""
    return as_factors(is_kept, weights.dtype).mul_(weights)


class _Cut:
    """Where each example lies; its parts come out as views by head."""

    def __init__(self, num_heads: int, num_queries: Sequence[int], num_keys: Sequence[int]) -> None:
        self._num_heads = num_heads
        self._num_queries = list(num_queries)
        self._num_keys = list(num_keys)
        self._shapes = [
            (num_heads, m, n) for m, n in zip(self._num_queries, self._num_keys, strict=True)
        ]
        self._starts = [0]
        for shape in self._shapes:
            self._starts.append(self._starts[-1] + math.prod(shape))

    @property
    def num_scores(self) -> int:
        """Of all examples."""
        return self._starts[-1]

    def scores(self, flat: Tensor, number: int) -> Tensor:
        """(num_scores,) -> (A, m, n) of one example."""
        start, stop = self._starts[number], self._starts[number + 1]
        return flat[start:stop].view(self._shapes[number])

    def examples(
        self, queries: Tensor, keys: Tensor, values: Tensor, context: Tensor
    ) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """(A, m, D), (A, n, D), (A, n, D), (A, m, D) of each example."""
        return list(
            zip(
                self._by_head(queries, self._num_queries),
                self._by_head(keys, self._num_keys),
                self._by_head(values, self._num_keys),
                self._by_head(context, self._num_queries),
                strict=True,
            )
        )

    def _by_head(self, rows: Tensor, lengths: Sequence[int]) -> list[Tensor]:
        by_head = rows.view(len(rows), self._num_heads, -1).transpose(0, 1)
        return list(torch.split(by_head, list(lengths), dim=1))
