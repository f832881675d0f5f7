"""What the encoder is made of: text embeddings, and one layer after another.

Names of parameters are those of BERT (`attention.self.query`, `output.LayerNorm`, ...).

Letters: B examples, T text positions, S positions, P positions seen, H hidden width, A heads.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from oscar_core.add_and_norm import drop_add_norm
from oscar_core.config import Activation
from oscar_core.dropout import Dropout
from oscar_core.hub_config import OscarHubConfig

ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "swish": nn.SiLU,
}

Attend = Callable[["EncoderLayer", Tensor], tuple[Tensor, Tensor | None]]
"""How the positions of a layer look at one another: (layer, its input) -> context with the heads
merged, of the input's shape, and the probabilities if they are asked for."""


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


class TextEmbeddings(nn.Module):
    """Word, position and token type, summed and normalised."""

    def __init__(self, config: OscarHubConfig) -> None:
        super().__init__()
        width = config.hidden_size
        # padding is id 0 in every BERT vocabulary; its lookup teaches nothing
        self.word_embeddings = nn.Embedding(config.vocabulary_size, width, padding_idx=0)
        self.position_embeddings = nn.Embedding(config.max_positions, width)
        self.token_type_embeddings = nn.Embedding(config.num_token_types, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor, position_ids: Tensor) -> Tensor:
        """Three of (..., T) int64 that broadcast -> (..., T, H)."""
        summed = (
            self.word_embeddings(input_ids)
            + self.position_embeddings(position_ids)
            + self.token_type_embeddings(token_type_ids)
        )
        embedded: Tensor = self.dropout(self.LayerNorm(summed))
        return embedded


class SelfAttention(nn.Module):
    """The three maps of an attention; transformers' attention functions are handed this module."""

    is_causal = False

    def __init__(self, config: OscarHubConfig) -> None:
        super().__init__()
        self.config = config
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)


class Residual(nn.Module):
    """A linear map whose output is dropped, added to what came before it, and normalised."""

    def __init__(self, width: int, config: OscarHubConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout)

    def forward(self, states: Tensor, before: Tensor) -> Tensor:
        """(..., width) and (..., H) -> (..., H)."""
        probability = self.dropout.p if self.training else 0.0
        return drop_add_norm(self.dense(states), before, self.LayerNorm, probability)


class Attention(nn.Module):
    """Parameters of one attention, maps and output."""

    def __init__(self, config: OscarHubConfig) -> None:
        super().__init__()
        self.self = SelfAttention(config)
        self.output = Residual(config.hidden_size, config)


class Widening(nn.Module):
    """The wide half of the feed-forward part."""

    def __init__(self, config: OscarHubConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACTIVATIONS[config.activation]()

    def forward(self, states: Tensor) -> Tensor:
        """(..., H) -> (..., intermediate)."""
        wide: Tensor = self.activation(self.dense(states))
        return wide


class EncoderLayer(GradientCheckpointingLayer):  # type: ignore[no-untyped-call]  # its __init_subclass__
    """One post-norm BERT layer; how its positions see one another is the caller's matter.

    Everything of a layer happens inside its call, so gradient checkpointing, sharding and
    compilation by layer work as in transformers' own models.

    Source: `pt/modeling_bert.py:BertLayer`.
    """

    def __init__(self, config: OscarHubConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.attention = Attention(config)
        self.intermediate = Widening(config)
        self.output = Residual(config.intermediate_size, config)

    def forward(self, states: Tensor, attend: Attend) -> tuple[Tensor, Tensor | None]:
        """(..., H) -> (..., H), and the attention probabilities if `attend` returns them."""
        context, probabilities = attend(self, states)
        return self.finish(states, context), probabilities

    def queries(self, states: Tensor) -> Tensor:
        """What the layer asks for: (B, S, H) -> (B, A, S, H / A)."""
        return self.split_heads(self.attention.self.query(states))

    def keys_and_values(self, states: Tensor) -> KeysAndValues:
        """What its queries look at: (B, P, H) -> keys and values by head."""
        maps = self.attention.self
        return KeysAndValues(
            keys=self.split_heads(maps.key(states)), values=self.split_heads(maps.value(states))
        )

    def finish(self, states: Tensor, context: Tensor) -> Tensor:
        """Everything that follows the attention: the layer's input and what was attended."""
        attended = self.attention.output(context, states)
        finished: Tensor = self.output(self.intermediate(attended), attended)
        return finished

    def split_heads(self, states: Tensor) -> Tensor:
        """(B, S, H) -> (B, A, S, H / A)."""
        width = states.shape[-1] // self.num_heads
        by_head = states.reshape(*states.shape[:-1], self.num_heads, width)
        return by_head.transpose(1, 2)


class Pooler(nn.Module):
    """tanh of a linear map of position 0."""

    def __init__(self, config: OscarHubConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, sequence: Tensor) -> Tensor:
        """(B, S, H) -> (B, H)."""
        return torch.tanh(self.dense(sequence[:, 0]))
