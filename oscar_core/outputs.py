"""What the models return to callers who speak transformers' language."""

from dataclasses import dataclass

from torch import Tensor
from transformers.utils.generic import ModelOutput


@dataclass
class PretrainingOutput(ModelOutput):
    """Both objectives and what they are made of.

    loss:            ()         the two losses added, if both labels were given
    word_logits:     (B, S, V)  at text and region positions
    contrast_logits: (B, C)
    hidden_states:   L + 1 of (B, S, H), if asked for
    attentions:      L of (B, A, S, S), if asked for
    word_loss, contrast_loss: (), each if its labels were given
    """

    loss: Tensor | None = None
    word_logits: Tensor | None = None
    contrast_logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    word_loss: Tensor | None = None
    contrast_loss: Tensor | None = None


@dataclass
class LogitsOutput(ModelOutput):
    """One loss and the logits it comes from.

    loss:          ()      if labels were given
    logits:        (B, C) of a classifier, (B, T, V) of captioning
    hidden_states: L + 1 of (B, S, H), if asked for
    attentions:    L of (B, A, S, S), if asked for
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
