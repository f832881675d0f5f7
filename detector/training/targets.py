"""Which anchor or proposal is to find which true box, and how far it has to move.

Letters: K anchors or proposals, G true boxes, P positives, A attribute slots.
Boxes are inclusive x1, y1, x2, y2 in pixels of the network input.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from detector.boxes import encode, overlap

POSITIVE = 1
NEGATIVE = 0
IGNORED = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """The true objects of one network input; G objects.

    boxes:      (G, 4) float32
    class_ids:  (G,) int64    1..C-1; 0 is the background and never true
    attributes: (G, A) int64  1.., 0 = empty slot
    """

    boxes: Tensor
    class_ids: Tensor
    attributes: Tensor

    def to(self, device: torch.device) -> "Truth":
        """The same on a device."""
        return Truth(
            boxes=self.boxes.to(device),
            class_ids=self.class_ids.to(device),
            attributes=self.attributes.to(device),
        )

    def flipped(self, width: int) -> "Truth":
        """The same objects in the mirrored input of `width` pixels: x becomes width - 1 - x."""
        x1, y1, x2, y2 = self.boxes.unbind(1)
        return Truth(
            boxes=torch.stack((width - 1 - x2, y1, width - 1 - x1, y2), dim=1),
            class_ids=self.class_ids,
            attributes=self.attributes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """What K boxes are to learn.

    labels:  (K,) int64  anchors: POSITIVE, NEGATIVE or IGNORED;
                         proposals: class id, 0 background, IGNORED
    matched: (K,) int64  the true box of highest overlap (meaningless where not positive)
    """

    labels: Tensor
    matched: Tensor


def match_anchors(
    anchors: Tensor,
    visible: Tensor,
    true_boxes: Tensor,
    *,
    foreground_overlap: float,
    background_overlap: float,
) -> Matches:
    """Label anchors for the proposal network.

    Positive: overlap (sides counted inclusively) of at least `foreground_overlap`, or the best
    anchor of some true box, ties included; the true box to reach is always the anchor's own best.
    Negative: below `background_overlap`. Invisible anchors are ignored whatever they match.
    Without true boxes every visible anchor is negative.

    Args:
        anchors: (K, 4) float32, not clipped.
        visible: (K,) bool, wholly inside the image.
        true_boxes: (G, 4) float32.
        foreground_overlap: Published 0.7.
        background_overlap: Published 0.3.

    Source: `specs/detector.md` 13; maskrcnn-benchmark `modeling/matcher.py`.
    """
    if len(true_boxes) == 0:
        best = matched = torch.zeros(len(anchors), dtype=torch.int64, device=anchors.device)
        return Matches(labels=torch.where(visible, best, IGNORED), matched=matched)
    overlaps = overlap(true_boxes, anchors)
    best_overlap, matched = overlaps.max(dim=0)
    labels = _labels_by_threshold(best_overlap, foreground_overlap, background_overlap)
    best_per_true_box = overlaps.max(dim=1, keepdim=True).values
    is_best = ((overlaps == best_per_true_box) & (best_per_true_box > 0)).any(dim=0)
    labels[is_best] = POSITIVE
    labels[~visible] = IGNORED
    return Matches(labels=labels, matched=matched)


def match_proposals(
    proposals: Tensor,
    truth: Truth,
    *,
    foreground_overlap: float,
    background_overlap: float,
) -> Matches:
    """Label proposals for the box head: the class of the best true box, or background.

    Args:
        proposals: (K, 4) float32.
        truth: The true objects.
        foreground_overlap: At least this is positive; published 0.5.
        background_overlap: Below this is background; published 0.5. Between the two: ignored.

    Source: `specs/detector.md` 13.
    """
    if len(truth.boxes) == 0:
        nothing = torch.zeros(len(proposals), dtype=torch.int64, device=proposals.device)
        return Matches(labels=nothing, matched=nothing)
    best_overlap, matched = overlap(truth.boxes, proposals).max(dim=0)
    labels = _labels_by_threshold(best_overlap, foreground_overlap, background_overlap)
    return Matches(
        labels=torch.where(labels == POSITIVE, truth.class_ids[matched], labels), matched=matched
    )


def deltas_to_truth(
    boxes: Tensor, true_boxes: Tensor, matched: Tensor, weights: tuple[float, float, float, float]
) -> Tensor:
    """How each of K boxes has to move to lie on its matched true box; (K, 4) float32.

    All zero where there is no true box at all.
    """
    if len(true_boxes) == 0:
        return torch.zeros_like(boxes)
    return encode(boxes, true_boxes[matched], weights)


def attribute_targets(attributes: Tensor, num_attributes: int) -> Tensor:
    """Spread one unit evenly over the attributes an object has.

    Args:
        attributes: (P, A) int64, 0 = empty slot.
        num_attributes: Width of the target, "no attribute" included.

    Returns:
        (P, num_attributes) float32; 1/k on each of the k attributes, all zero without any.

    Source: `specs/detector.md` 13.
    """
    targets = torch.zeros(len(attributes), num_attributes, device=attributes.device)
    targets.scatter_(1, attributes, 1.0)
    targets[:, 0] = 0.0
    return targets / targets.sum(dim=1, keepdim=True).clamp(min=1.0)


def _labels_by_threshold(best_overlap: Tensor, foreground: float, background: float) -> Tensor:
    """(K,) int64 of POSITIVE, NEGATIVE, IGNORED."""
    labels = torch.full_like(best_overlap, IGNORED, dtype=torch.int64)
    labels[best_overlap < background] = NEGATIVE
    labels[best_overlap >= foreground] = POSITIVE
    return labels
