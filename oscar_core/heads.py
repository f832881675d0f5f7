"""What stands on top of the encoder; a model that owns a head draws its weights.

Letters: B examples, H hidden width, V vocabulary size, C classes.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from oscar_core.errors import ModelConfigError
from oscar_core.hub_config import OscarHubConfig
from oscar_core.layers import ACTIVATIONS

HeadKind = Literal["linear", "mlp"]


class WordHead(nn.Module):
    """Tells which word stands at a position, for masked words and for captions.

    The output projection is the word embedding itself, handed in by the model that owns it, or
    (captions only) a matrix of its own.

    Source: `pt/modeling_bert.py:BertLMPredictionHead`.
    """

    def __init__(self, config: OscarHubConfig, *, is_tied: bool = True) -> None:
        super().__init__()
        self.transform = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.activation]()
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary_size))
        self.decoder = (
            None if is_tied else nn.Linear(config.hidden_size, config.vocabulary_size, bias=False)
        )

    def forward(self, states: Tensor, word_embedding: Tensor) -> Tensor:
        """Logits over the vocabulary: (..., H) and (V, H) -> (..., V)."""
        projection = word_embedding if self.decoder is None else self.decoder.weight
        states = self.norm(self.activation(self.transform(states)))
        return functional.linear(states, projection, self.bias)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerHead:
    """The classifier of VQA, GQA, retrieval and NLVR2.

    Attributes:
        num_labels: C; 1 means a score learned by squared error.
        kind: "linear", or "mlp" with one hidden layer of `hidden_scale` times H.
    """

    num_labels: int
    kind: HeadKind = "linear"
    hidden_scale: int = 2

    def __post_init__(self) -> None:
        """Refuse a head without outputs."""
        if self.num_labels < 1 or self.hidden_scale < 1:
            raise ModelConfigError(
                f"num_labels {self.num_labels} and hidden_scale {self.hidden_scale} "
                "must be at least 1"
            )

    def settings(self) -> dict[str, object]:
        """The same by the names of `OscarHubConfig`."""
        return {
            "num_labels": self.num_labels,
            "head": self.kind,
            "head_hidden_scale": self.hidden_scale,
        }


def answer_head(
    config: OscarHubConfig, *, num_pooled: int = 1, has_norm: bool = False
) -> nn.Module:
    """Build a classifier.

    Args:
        config: With the settings of the head.
        num_pooled: Pooled vectors laid side by side as input.
        has_norm: LayerNorm before the last layer of an "mlp".

    Source: `oscar/modeling/modeling_bert.py:ImageBertForSequenceClassification` and
    `ImageBertForMultipleChoice`.
    """
    width = num_pooled * config.hidden_size
    num_labels = config.num_labels or 0
    if config.head == "linear":
        return nn.Linear(width, num_labels)
    hidden = config.hidden_size * config.head_hidden_scale
    layers: list[nn.Module] = [nn.Linear(width, hidden), nn.ReLU()]
    if has_norm:
        layers.append(nn.LayerNorm(hidden, eps=config.layer_norm_eps))
    return nn.Sequential(*layers, nn.Linear(hidden, num_labels))
