"""What is made small in training; pure functions of logits and labels.

Letters: B examples, N labelled positions, V vocabulary size, C classes.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from oscar_core.compat import OUR_LOSSES, LossCompat
from oscar_core.errors import ModelConfigError

LossKind = Literal["cross_entropy", "bce", "kl"]

NOT_A_TARGET = -1
"""Label from which nothing is to be learned; `BertImgForPreTraining`."""

PUBLISHED_NUM_ANSWERS = 3129
"""Answers of VQA v2 seen at least 9 times; `ImageBertForSequenceClassification`, kl loss."""


def cross_entropy(logits: Tensor, labels: Tensor, compat: LossCompat = OUR_LOSSES) -> Tensor:
    """Mean over the labels that are not -1; 0 (original: NaN) when there is none.

    Args:
        logits: (..., C) float32.
        labels: (...) int64.
        compat: See `gives_nan_without_masks`.
    """
    flat = logits.reshape(-1, logits.shape[-1])
    labels = labels.reshape(-1)
    total = functional.cross_entropy(flat, labels, ignore_index=NOT_A_TARGET, reduction="sum")
    num = (labels != NOT_A_TARGET).sum()
    return total / (num if compat.gives_nan_without_masks else num.clamp(min=1))


def answer_loss(
    logits: Tensor, labels: Tensor, kind: LossKind, compat: LossCompat = OUR_LOSSES
) -> Tensor:
    """Loss of a classifier.

    One output is fitted by squared error whatever `kind` says. "bce" sums over classes and takes
    the mean over examples; "kl" is the divergence of the labels from softmax(logits), likewise.

    Args:
        logits: (B, C) float32.
        labels: (B,) int64 for "cross_entropy", else (B, C) float32, soft.
        kind: Which loss.
        compat: See `reads_kl_by_3129`.

    Source: `oscar/modeling/modeling_bert.py:ImageBertForSequenceClassification.forward`.
    """
    num_labels = logits.shape[-1]
    if num_labels == 1:
        return functional.mse_loss(logits.reshape(-1), labels.reshape(-1).to(logits.dtype))
    if kind == "bce":
        labels = labels.reshape(-1, num_labels).to(logits.dtype)
        return functional.binary_cross_entropy_with_logits(logits, labels) * num_labels
    if kind == "kl":
        width = PUBLISHED_NUM_ANSWERS if compat.reads_kl_by_3129 else num_labels
        log_probabilities = logits.reshape(-1, width).log_softmax(dim=-1)
        return functional.kl_div(log_probabilities, labels, reduction="batchmean")
    return functional.cross_entropy(logits, labels.reshape(-1))


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionLoss:
    """How captions are learned; the defaults switch everything off.

    Attributes:
        label_smoothing: Probability spread over the words that are not the right one.
        drop_worst_ratio: Share of the words with the largest loss that is left out.
        drop_worst_after: Only after this many updates (in the original: forward calls).

    Source: `oscar/modeling/modeling_bert.py:BertCaptioningLoss`.
    """

    label_smoothing: float = 0.0
    drop_worst_ratio: float = 0.0
    drop_worst_after: int = 0

    def __post_init__(self) -> None:
        """Refuse shares outside 0..1."""
        for name in ("label_smoothing", "drop_worst_ratio"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ModelConfigError(f"{name} must lie in 0..1, not {getattr(self, name)}")


def caption_loss(
    logits: Tensor,
    targets: Tensor,
    settings: CaptionLoss,
    *,
    number: int,
    compat: LossCompat = OUR_LOSSES,
) -> Tensor:
    """Mean divergence of the smoothed target from softmax(logits), worst words left out.

    Args:
        logits: (N, V) float32.
        targets: (N,) int64, -1 where nothing is to be learned.
        settings: Smoothing and dropping.
        number: Of the update that this loss serves, counted from 1.
        compat: See `may_drop_every_word`.
    """
    asked = targets != NOT_A_TARGET
    num = asked.sum()
    losses = _smoothed_divergence(logits, targets.clamp(min=0), settings.label_smoothing)
    if settings.drop_worst_ratio > 0 and number > settings.drop_worst_after:
        # as Python's int(N * (1 - ratio)), in float64; what is not asked counts as the worst
        num_kept = (num.to(torch.float64) * (1 - settings.drop_worst_ratio)).to(torch.int64)
        if not compat.may_drop_every_word:
            num_kept = torch.minimum(num_kept.clamp(min=1), num)
        losses = losses.masked_fill(~asked, torch.inf).sort().values
        kept = torch.arange(len(losses), device=losses.device) < num_kept
        if compat.may_drop_every_word:
            return losses.where(kept, 0.0).sum() / num_kept
        return losses.where(kept, 0.0).sum() / num_kept.clamp(min=1)
    return losses.where(asked, 0.0).sum() / num.clamp(min=1)


def _smoothed_divergence(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """KL divergence for each word, (N,); the cross entropy where `smoothing` is 0."""
    log_probabilities = logits.float().log_softmax(dim=-1)
    right = log_probabilities.gather(1, targets[:, None]).squeeze(1)
    if smoothing == 0.0:
        return -right
    share = smoothing / (logits.shape[-1] - 1)
    wrong = log_probabilities.sum(dim=-1) - right
    entropy = -(1 - smoothing) * math.log(1 - smoothing) - smoothing * math.log(share)
    return -(1 - smoothing) * right - share * wrong - entropy


def caption_accuracy(logits: Tensor, targets: Tensor) -> float:
    """Share of the masked words told right; 0 where there is none."""
    if len(targets) == 0:
        return 0.0
    return float((logits.argmax(dim=-1) == targets).to(torch.float32).mean())
