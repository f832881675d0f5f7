"""Chooses the next word from its logits: penalty, filters, draws.

Letters: n rows, c words so far with [CLS], V vocabulary size.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Uniforms = Callable[[int, int], Tensor]
"""(rows, draws) -> (rows, draws) float64 in [0, 1)."""


def uniforms_from(seed: int) -> Uniforms:
    """Random numbers for sampling, the same for the same seed on every device."""
    generator = torch.Generator().manual_seed(seed)

    def draw(rows: int, draws: int) -> Tensor:
        return torch.rand((rows, draws), generator=generator, dtype=torch.float64)

    return draw


def penalised(logits: Tensor, ids: Tensor, penalty: float) -> Tensor:
    """Make words that a row holds less likely: z * penalty below 0, else z / penalty.

    Args:
        logits: (n, V) float32.
        ids: (n, c) int64.
        penalty: 1 changes nothing.
    """
    if penalty == 1.0:
        return logits
    held = logits.gather(1, ids)
    return logits.scatter(1, ids, torch.where(held < 0, held * penalty, held / penalty))


def filtered(logits: Tensor, top_k: int, top_p: float, num_needed: int = 1) -> Tensor:
    """Put words that may not be drawn to -inf: top k first, then top p of what is left.

    All words as likely as the k-th stay. Of top p, the first word that passes the share stays
    too; where two words are needed, three stay (C13).

    Args:
        logits: (n, V) float32.
        top_k: 0 for no limit.
        top_p: 1 for no limit.
        num_needed: Words to be drawn from a row.

    Source: `oscar/modeling/modeling_utils.py:top_k_top_p_filtering`.
    """
    if top_k > 0:
        limit = min(max(top_k, num_needed), logits.shape[-1])
        smallest = logits.topk(limit, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    if top_p < 1.0:
        ordered, places = logits.sort(dim=-1, descending=True, stable=True)
        is_past = ordered.softmax(dim=-1).cumsum(dim=-1) > top_p
        if num_needed > 1:
            is_past[:, :num_needed] = False
        removed = is_past.roll(1, dims=-1)
        removed[:, 0] = False
        logits = logits.masked_fill(
            torch.zeros_like(removed).scatter(1, places, removed), -torch.inf
        )
    return logits


def draw_words(logits: Tensor, uniforms: Tensor) -> Tensor:
    """Draw words by probability, none twice in a row.

    The word is the first, in the order of the vocabulary, whose cumulated probability exceeds the
    uniform number; the probabilities of words drawn before are taken out.

    Args:
        logits: (n, V) float32.
        uniforms: (n, draws) float64 in [0, 1).

    Returns:
        (n, draws) int64.
    """
    left = logits.double().softmax(dim=-1)
    words = []
    for column in uniforms.double().unbind(dim=1):
        cumulated = (left / left.sum(dim=-1, keepdim=True)).cumsum(dim=-1)
        is_past = (cumulated > column[:, None]) & (left > 0)
        likeliest = left.argmax(dim=-1)  # where rounding lets no sum exceed the number
        word = torch.where(is_past.any(dim=-1), is_past.int().argmax(dim=-1), likeliest)
        words.append(word)
        left = left.scatter(1, word[:, None], 0.0)
    return torch.stack(words, dim=1)
