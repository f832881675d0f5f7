"""The five losses of the detector.

Letters: S sampled anchors or regions of the whole batch, P positives among them, C classes with
background, M attributes with "no attribute". All means run over the batch, not per image.
Source of every formula: `specs/detector.md` 13.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

RPN_BETA = 1.0 / 9.0  # smooth L1 turns linear here; maskrcnn-benchmark `rpn/loss.py`
BOX_BETA = 1.0  # maskrcnn-benchmark `box_head/loss.py`


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the means run over: sampled anchors, sampled regions, the positive ones of these."""

    anchors: int
    regions: int
    positives: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorLosses:
    """Scalars; the attribute loss already carries its weight."""

    objectness: Tensor
    proposal_box: Tensor
    classifier: Tensor
    box: Tensor
    attribute: Tensor
    counts: Counts

    @property
    def total(self) -> Tensor:
        """Plain sum."""
        return self.objectness + self.proposal_box + self.classifier + self.box + self.attribute

    def parts(self) -> dict[str, Tensor]:
        """Name -> loss, without the total."""
        return {
            "objectness": self.objectness,
            "proposal_box": self.proposal_box,
            "classifier": self.classifier,
            "box": self.box,
            "attribute": self.attribute,
        }

    def weights(self) -> dict[str, int]:
        """Name -> what its mean runs over."""
        counts = self.counts
        return {
            "objectness": counts.anchors,
            "proposal_box": counts.anchors,
            "classifier": counts.regions,
            "box": counts.regions,
            "attribute": counts.positives,
        }


def smooth_l1_sum(difference: Tensor, beta: float) -> Tensor:
    """Sum of 0.5 d^2 / beta where |d| < beta, |d| - 0.5 beta elsewhere."""
    size = difference.abs()
    return torch.where(size < beta, 0.5 * size**2 / beta, size - 0.5 * beta).sum()


def objectness_loss(logits: Tensor, is_positive: Tensor) -> Tensor:
    """Binary cross entropy, mean over S sampled anchors; 0 without any.

    Args:
        logits: (S,) float32.
        is_positive: (S,) bool.
    """
    total = functional.binary_cross_entropy_with_logits(
        logits, is_positive.to(logits.dtype), reduction="sum"
    )
    return total / max(len(logits), 1)


def proposal_box_loss(deltas: Tensor, targets: Tensor, num_sampled: int) -> Tensor:
    """Smooth L1 over the positives' four numbers, divided by all sampled anchors.

    Args:
        deltas: (P, 4) float32, predicted.
        targets: (P, 4) float32.
        num_sampled: S, positives and negatives of the whole batch.
    """
    return smooth_l1_sum(deltas - targets, RPN_BETA) / max(num_sampled, 1)


def classifier_loss(class_logits: Tensor, class_ids: Tensor) -> Tensor:
    """Cross entropy, mean over S sampled regions; 0 without any.

    Args:
        class_logits: (S, C) float32.
        class_ids: (S,) int64, 0 = background.
    """
    total = functional.cross_entropy(class_logits, class_ids, reduction="sum")
    return total / max(len(class_ids), 1)


def box_loss(box_deltas: Tensor, class_ids: Tensor, targets: Tensor) -> Tensor:
    """Smooth L1 on the four rows of the true class, summed over positives, divided by S.

    Args:
        box_deltas: (S, 4C) float32, or (S, 8) when one box serves all classes (rows 4..7 count).
        class_ids: (S,) int64, 0 = background.
        targets: (S, 4) float32, meaningless for background.
    """
    positive = torch.nonzero(class_ids > 0).flatten()
    per_class = box_deltas.view(len(box_deltas), box_deltas.shape[1] // 4, 4)
    is_agnostic = per_class.shape[1] == 2
    rows = torch.ones_like(positive) if is_agnostic else class_ids[positive]
    difference = per_class[positive, rows] - targets[positive]
    return smooth_l1_sum(difference, BOX_BETA) / max(len(class_ids), 1)


def attribute_loss(attribute_logits: Tensor, targets: Tensor, weight: float) -> Tensor:
    """Cross entropy with the spread-out target, mean over P positive regions; 0 without any.

    Regions without attributes add nothing but count in the mean.

    Args:
        attribute_logits: (P, M) float32.
        targets: (P, M) float32 from `attribute_targets`.
        weight: Published 0.5.
    """
    total = -(targets * functional.log_softmax(attribute_logits, dim=1)).sum()
    return weight * total / max(len(targets), 1)
