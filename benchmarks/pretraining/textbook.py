"""A pretraining step as the books have it: padded, eager, float32, each operation by itself.

transformers' own BERT layers with attention written out, torch's dropout, word scores at every
position, and AdamW as the old library wrote it, parameter by parameter.

Letters: B examples, T text positions, R region positions, S = T + R, H hidden width.
"""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig
from transformers.models.bert.modeling_bert import (
    BertEmbeddings,
    BertLayer,
    BertPooler,
    BertPreTrainingHeads,
)

from oscar_core.config import OscarConfig
from oscar_core.losses import NOT_A_TARGET
from oscar_core.models import PretrainingModel
from oscar_core.packing import PackedBatch

MASKED = -10000.0
CLIP = 10.0
"""Largest norm of all gradients; the published pretraining."""


class Textbook(nn.Module):
    """`BertImgForPreTraining` out of transformers' BERT."""

    def __init__(self, config: OscarConfig) -> None:
        super().__init__()
        bert = BertConfig(
            vocab_size=config.vocabulary_size,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            intermediate_size=config.intermediate_size,
            hidden_dropout_prob=config.hidden_dropout,
            attention_probs_dropout_prob=config.attention_dropout,
            max_position_embeddings=config.max_positions,
            layer_norm_eps=config.layer_norm_eps,
            attn_implementation="eager",
        )
        self.embeddings = BertEmbeddings(bert)
        self.layers = nn.ModuleList(BertLayer(bert) for _ in range(config.num_layers))
        self.pooler = BertPooler(bert)
        self.heads = BertPreTrainingHeads(bert)
        self.heads.predictions.decoder.weight = self.embeddings.word_embeddings.weight
        self.heads.seq_relationship = nn.Linear(config.hidden_size, 3)
        self.region_projection = nn.Linear(config.region_feature_dim, config.hidden_size)
        self.region_norm = nn.LayerNorm(config.hidden_size, eps=config.region_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def encode(self, batch: PackedBatch) -> Tensor:
        """(B, S, H), padding and all."""
        regions = self.dropout(self.region_norm(self.region_projection(batch.region_features)))
        states = torch.cat([self.embeddings(batch.input_ids, batch.token_type_ids), regions], dim=1)
        bias = (1.0 - batch.attention_mask[:, None, None, :].to(states.dtype)) * MASKED
        for layer in self.layers:
            states = layer(states, bias)
        return cast(Tensor, states)

    def loss(
        self, batch: PackedBatch, words: Tensor, matches: Tensor, *, everywhere: bool = True
    ) -> Tensor:
        """Masked words and three-way.

        Args:
            batch: B of T and R positions.
            words: (B, S) int64.
            matches: (B,) int64.
            everywhere: Score words at every position, or only at labels.
        """
        states = self.encode(batch)
        pooled = self.pooler(states)
        if not everywhere:
            chosen = words != NOT_A_TARGET
            states, words = states[chosen], words[chosen]
        scores, contrast = self.heads(states, pooled)
        of_words = functional.cross_entropy(
            scores.flatten(0, -2), words.flatten(), ignore_index=NOT_A_TARGET
        )
        return of_words + functional.cross_entropy(contrast, matches, ignore_index=NOT_A_TARGET)

    def take(self, model: PretrainingModel) -> None:
        """The weights of our model."""
        ours = model.state_dict()
        theirs = self.state_dict()
        names = {name: _our_name(name) for name in theirs}
        self.load_state_dict({name: ours[own] for name, own in names.items()}, strict=True)


def _our_name(name: str) -> str:
    """The name of a parameter in our model."""
    changed = {
        "heads.predictions.transform.dense": "word_head.transform",
        "heads.predictions.transform.LayerNorm": "word_head.norm",
        "heads.predictions.decoder.weight": "encoder.embeddings.word_embeddings.weight",
        "heads.predictions.decoder.bias": "word_head.bias",
        "heads.predictions.bias": "word_head.bias",
        "heads.seq_relationship": "contrast_head",
    }
    for theirs, ours in changed.items():
        if name.startswith(theirs):
            return name.replace(theirs, ours)
    return f"encoder.{name}"


class TextbookAdamW(torch.optim.Optimizer):
    """The published update, one operation after the other, one parameter after the other.

    Source: `pt/optimization.py:AdamW`.
    """

    def __init__(self, model: nn.Module, *, lr: float, weight_decay: float) -> None:
        trained = [each for each in model.parameters() if each.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay},
            {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
        ]
        super().__init__(groups, {"lr": lr, "betas": (0.9, 0.999), "eps": 1e-8})

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]  # torch's returns the closure's loss
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = 0
                    state["mean"] = torch.zeros_like(parameter)
                    state["square"] = torch.zeros_like(parameter)
                state["step"] += 1
                state["mean"].mul_(beta1).add_(parameter.grad, alpha=1 - beta1)
                state["square"].mul_(beta2).addcmul_(
                    parameter.grad, parameter.grad, value=1 - beta2
                )
                below = state["square"].sqrt().add_(group["eps"])
                correction = math.sqrt(1 - beta2 ** state["step"]) / (1 - beta1 ** state["step"])
                parameter.addcdiv_(state["mean"], below, value=-group["lr"] * correction)
                if group["weight_decay"] > 0:
                    parameter.add_(parameter, alpha=-group["lr"] * group["weight_decay"])
