"""How queries find their values, by transformers' own switch `attn_implementation`.

"eager" is written out here; "sdpa", "flash_attention_2", "flex_attention" and whatever else is
registered with transformers' `AttentionInterface` are called through it.

Letters: B examples, S queries, P positions seen, H hidden width, A heads.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.generic import is_flash_attention_requested

from oscar_core.dropout import dropout as dropped
from oscar_core.errors import ModelConfigError
from oscar_core.layers import KeysAndValues

EAGER = "eager"
FLEX = "flex_attention"

MASKED = -10000.0
"""Added to the score of a key that must not be seen. Finite, as in the original: a query that
sees nothing attends to everything by its raw scores."""


def additive_mask(attention_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn 1 = visible, 0 = hidden into what is added to the attention scores.

    Args:
        attention_mask: (B, P) for all queries alike, or (B, S, P).
        dtype: Of the scores.

    Returns:
        (B, 1, 1, P) or (B, 1, S, P).

    Raises:
        ValueError: The mask has neither 2 nor 3 dimensions.
    """
    if attention_mask.dim() == 2:
        visible = attention_mask[:, None, None, :]
    elif attention_mask.dim() == 3:
        visible = attention_mask[:, None, :, :]
    else:
        raise ValueError(f"attention mask of shape {tuple(attention_mask.shape)}: want (B, S)")
    return (1.0 - visible.to(dtype)) * MASKED


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What the queries of every layer may see, prepared once a batch.

    implementation: transformers' name for how it is computed
    mask:           as that implementation reads it
    dropout:        probability with which an attention is dropped
    """

    implementation: str
    mask: Tensor | BlockMask
    dropout: float

    @classmethod
    def of(
        cls,
        attention_mask: Tensor,
        implementation: str,
        *,
        num_queries: int,
        dtype: torch.dtype,
        dropout: float,
    ) -> "Sight":
        """Prepare a mask of 1 = visible, (B, P) or (B, S, P).

        Raises:
            ModelConfigError: Flash attention and a mask by query, which it cannot read.
        """
        if is_flash_attention_requested(requested_attention_implementation=implementation):
            if attention_mask.dim() != 2:
                raise ModelConfigError(
                    f"{implementation} hides padding only, this input says query by query what is "
                    'seen (captions do); use attn_implementation="sdpa"'
                )
            return cls(implementation=implementation, mask=attention_mask, dropout=dropout)
        if implementation == FLEX:
            blocks = _block_mask(attention_mask, num_queries)
            return cls(implementation=implementation, mask=blocks, dropout=dropout)
        mask = additive_mask(attention_mask, dtype)
        return cls(implementation=implementation, mask=mask, dropout=dropout)

    def attend(
        self,
        module: nn.Module,
        queries: Tensor,
        seen: KeysAndValues,
        head_factors: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Let queries look at what is seen.

        Args:
            module: The layer's attention.
            queries: (B, A, S, H / A).
            seen: Keys and values.
            head_factors: (1, A, 1, 1) on the probabilities; "eager" only.

        Returns:
            (B, S, H), heads merged, and with "eager" the probabilities (B, A, S, P).
        """
        call = ALL_ATTENTION_FUNCTIONS.get_interface(self.implementation, eager_attention)
        factors = {} if head_factors is None else {"head_factors": head_factors}
        context, probabilities = call(
            module,
            queries,
            seen.keys,
            seen.values,
            self.mask,
            dropout=self.dropout,
            scaling=queries.shape[-1] ** -0.5,
            **factors,
        )
        merged = cast(Tensor, context).flatten(2)
        return merged, probabilities if self.implementation == EAGER else None


def _block_mask(attention_mask: Tensor, num_queries: int) -> BlockMask:
    """(B, P) or (B, S, P) -> what flex attention reads; a query that sees nothing finds 0."""
    visible = attention_mask.bool()
    if visible.dim() == 2:
        visible = visible[:, None, :]
    visible = visible.expand(-1, num_queries, -1).contiguous()

    def is_visible(example: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return visible[example, query, key]

    return create_block_mask(
        is_visible, len(visible), None, num_queries, visible.shape[-1], device=visible.device
    )


def eager_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    head_factors: Tensor | None = None,
    **_: object,
) -> tuple[Tensor, Tensor]:
    """Attention written out.

    Args:
        module: Not read; transformers' functions have it.
        query: (B, A, S, H / A).
        key: (B, A, P, H / A).
        value: Likewise.
        attention_mask: Added to the scores; broadcasts to (B, A, S, P).
        scaling: Of the scores.
        dropout: Probability with which an attention is dropped.
        head_factors: (1, A, 1, 1), multiplied to the probabilities after the dropout.

    Returns:
        (B, S, A, H / A), and the probabilities (B, A, S, P) as they were used.

    Source: `pt/modeling_bert.py:BertSelfAttention`.
    """
    scores = query @ key.transpose(-1, -2) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    probabilities = dropped(scores.softmax(dim=-1), dropout)
    if head_factors is not None:
        probabilities = probabilities * head_factors
    return (probabilities @ value).transpose(1, 2), probabilities
