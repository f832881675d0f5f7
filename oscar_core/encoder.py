"""The text and region Transformer behind every task.

Letters: B examples, T text positions, R region positions, S = T + R, P remembered positions,
H hidden width, F region input width, L layers, A attention heads.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertEmbeddings, BertLayer, BertPooler

from oscar_core.config import OscarConfig

MASKED = -10000.0
"""Added to the score of a key that must not be seen. Finite, as in the original: a query that
sees nothing attends to everything by its raw scores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """What the encoder returns.

    sequence:      (B, S, H) float32
    pooled:        (B, H) float32        tanh of a linear map of position 0
    hidden_states: L + 1 of (B, S, H)    the embedding first; () unless asked for
    attentions:    L of (B, A, S, P + S) after dropout and head mask; () unless asked for
    """

    sequence: Tensor
    pooled: Tensor
    hidden_states: tuple[Tensor, ...] = ()
    attentions: tuple[Tensor, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysAndValues:
    """What one layer lets its queries look at; P positions.

    keys, values: (B, A, P, H / A) float32
    """

    keys: Tensor
    values: Tensor

    def extended(self, later: "KeysAndValues") -> "KeysAndValues":
        """These positions, then the later ones."""
        return KeysAndValues(
            keys=torch.cat([self.keys, later.keys], dim=2),
            values=torch.cat([self.values, later.values], dim=2),
        )


def additive_mask(attention_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn 1 = visible, 0 = hidden into what is added to the attention scores.

    Args:
        attention_mask: (B, S) for all queries alike, or (B, queries, keys).
        dtype: Of the scores.

    Returns:
        (B, 1, 1, S) or (B, 1, queries, keys).

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


def initialise(module: nn.Module, initializer_range: float) -> None:
    """Draw the weights of `module` and all below it anew from torch's default generator.

    Linear and embedding weights from N(0, range) (the padding row too), biases 0, LayerNorm 1, 0.

    Source: `pt/modeling_bert.py:init_weights`.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=initializer_range)
        if isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
        if isinstance(part, nn.Linear | nn.LayerNorm) and part.bias is not None:
            nn.init.zeros_(part.bias)


class OscarEncoder(nn.Module):
    """BERT over words, then regions; transformers' BERT layers, our own forward.

    The parameters are transformers' own (`embeddings`, `layers`, `pooler`) beside
    `region_projection` and `region_norm`; `published/bert_names.py` maps them to the names of
    published checkpoints. Regions get neither a position nor a token type.

    Source: `oscar/modeling/modeling_bert.py:BertImgModel`.
    """

    def __init__(self, config: OscarConfig) -> None:
        super().__init__()
        self.config = config
        bert = _bert_config(config)
        # transformers leaves its constructors untyped
        # transformers leaves its constructors untyped
        self.embeddings = BertEmbeddings(bert)  # type: ignore[no-untyped-call]
        layers = [BertLayer(bert) for _ in range(config.num_layers)]  # type: ignore[no-untyped-call]
        self.layers = nn.ModuleList(layers)
        self.pooler = BertPooler(bert)  # type: ignore[no-untyped-call]
        self.region_projection = nn.Linear(config.region_feature_dim, config.hidden_size)
        self.region_norm = (
            nn.LayerNorm(config.hidden_size, eps=config.region_norm_eps)
            if config.has_region_norm
            else None
        )
        self.dropout = nn.Dropout(config.hidden_dropout)
        initialise(self, config.initializer_range)

    def embed_text(
        self, input_ids: Tensor, token_type_ids: Tensor | None, position_ids: Tensor | None
    ) -> Tensor:
        """Word, position and token type, summed and normalised: (B, T) int64 -> (B, T, H)."""
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        part = self.embeddings
        summed = (
            part.word_embeddings(input_ids)
            + part.position_embeddings(position_ids)
            + part.token_type_embeddings(token_type_ids)
        )
        embedded: Tensor = self.dropout(part.LayerNorm(summed))
        return embedded

    def embed_regions(self, region_features: Tensor) -> Tensor:
        """Project regions to the hidden width: (B, R, F) float32 -> (B, R, H)."""
        projected = self.region_projection(region_features)
        if self.region_norm is not None:
            projected = self.region_norm(projected)
        embedded: Tensor = self.dropout(projected)
        return embedded

    def each_layer(self) -> list[BertLayer]:
        """The layers from the embedding upwards."""
        return [cast(BertLayer, layer) for layer in self.layers]

    def queries(self, layer: BertLayer, states: Tensor) -> Tensor:
        """What a layer asks for: (B, positions, H) -> (B, A, positions, H / A)."""
        return self.split_heads(layer.attention.self.query(states))

    def keys_and_values(self, layer: BertLayer, states: Tensor) -> KeysAndValues:
        """What a layer's queries will look at: (B, P, H) -> keys and values by head."""
        attention = layer.attention.self
        return KeysAndValues(
            keys=self.split_heads(attention.key(states)),
            values=self.split_heads(attention.value(states)),
        )

    def split_heads(self, states: Tensor) -> Tensor:
        """(B, positions, H) -> (B, A, positions, H / A)."""
        heads = self.config.num_heads
        by_head = states.reshape(*states.shape[:-1], heads, states.shape[-1] // heads)
        return by_head.transpose(1, 2)

    def finish_layer(self, layer: BertLayer, states: Tensor, context: Tensor) -> Tensor:
        """Everything of a layer that follows its attention.

        Args:
            layer: One of `layers`.
            states: (B, positions, H) the layer's input.
            context: (B, positions, H) attended values, heads merged.
        """
        after = layer.attention.output
        states = after.LayerNorm(self.dropout(after.dense(context)) + states)
        wide = layer.intermediate.intermediate_act_fn(layer.intermediate.dense(states))
        last = layer.output
        finished: Tensor = last.LayerNorm(self.dropout(last.dense(wide)) + states)
        return finished

    def pool(self, sequence: Tensor) -> Tensor:
        """(B, S, H) -> (B, H): tanh of a linear map of position 0."""
        return torch.tanh(self.pooler.dense(sequence[:, 0]))

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None,
        attention_mask: Tensor,
        region_features: Tensor | None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        history: Sequence[Tensor] | None = None,
        *,
        keep_hidden_states: bool = False,
        keep_attentions: bool = False,
    ) -> Encoded:
        """Encode text and regions together.

        Args:
            input_ids: (B, T) int64.
            token_type_ids: (B, T) int64; None for all 0.
            attention_mask: (B, S), or (B, S, P + S) by query and key; 1 = visible.
            region_features: (B, R, F) float32; None for text alone.
            position_ids: (B, T) int64; None for 0..T-1.
            head_mask: (A,) or (L, A) factors on the attention probabilities.
            history: L of (B, P, H), the input of each layer at earlier positions, put before the
                keys and values; then the mask has to be 3-D.
            keep_hidden_states: Return the input of every layer and the last output.
            keep_attentions: Return the attention probabilities.
        """
        states = self.embed_text(input_ids, token_type_ids, position_ids)
        if region_features is not None:
            states = torch.cat([states, self.embed_regions(region_features)], dim=1)
        bias = additive_mask(attention_mask, states.dtype)
        factors = _per_layer(head_mask, len(self.layers))
        hidden_states, attentions = [states], []
        for index, layer in enumerate(self.each_layer()):
            seen = states if history is None else torch.cat([history[index], states], dim=1)
            context, probabilities = self._attend(
                layer,
                states,
                self.keys_and_values(layer, seen),
                bias,
                factors[index],
                is_plain=factors[index] is None and not keep_attentions,
            )
            states = self.finish_layer(layer, states, context)
            if keep_hidden_states:
                hidden_states.append(states)
            if probabilities is not None:
                attentions.append(probabilities)
        return Encoded(
            sequence=states,
            pooled=self.pool(states),
            hidden_states=tuple(hidden_states) if keep_hidden_states else (),
            attentions=tuple(attentions),
        )

    def _attend(
        self,
        layer: BertLayer,
        states: Tensor,
        seen: KeysAndValues,
        bias: Tensor,
        factor: Tensor | None,
        *,
        is_plain: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """One layer's attention; fused where nobody wants to see or scale the probabilities."""
        queries = self.queries(layer, states)
        dropout = self.config.attention_dropout if self.training else 0.0
        probabilities: Tensor | None = None
        if is_plain:
            context = functional.scaled_dot_product_attention(
                queries, seen.keys, seen.values, attn_mask=bias.to(queries.dtype), dropout_p=dropout
            )
        else:
            scores = queries @ seen.keys.transpose(-1, -2) / math.sqrt(queries.shape[-1]) + bias
            probabilities = functional.dropout(scores.softmax(dim=-1), dropout)
            if factor is not None:
                probabilities = probabilities * factor
            context = probabilities @ seen.values
        return context.transpose(1, 2).flatten(2), probabilities


def _per_layer(head_mask: Tensor | None, num_layers: int) -> list[Tensor | None]:
    """Head factors of each layer, shaped (1, A, 1, 1); a 1-D mask serves every layer."""
    if head_mask is None:
        return [None] * num_layers
    rows = head_mask.expand(num_layers, -1) if head_mask.dim() == 1 else head_mask
    return [row[None, :, None, None] for row in rows]


def _bert_config(config: OscarConfig) -> BertConfig:
    """The same sizes in transformers' words; padding is id 0 in every BERT vocabulary."""
    return BertConfig(
        vocab_size=config.vocabulary_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.intermediate_size,
        hidden_act=config.activation,
        hidden_dropout_prob=config.hidden_dropout,
        attention_probs_dropout_prob=config.attention_dropout,
        max_position_embeddings=config.max_positions,
        type_vocab_size=config.num_token_types,
        layer_norm_eps=config.layer_norm_eps,
        pad_token_id=0,
    )
