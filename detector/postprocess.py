"""From the heads' numbers to the regions that are kept; torch comes back to numpy in `detect`.

Letters: n proposals of one image, C classes with background, G = C boxes per proposal, or 1 that
serves all classes, k kept regions. Boxes are inclusive pixels of the network input.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import nms

from detector.boxes import clip, decode
from detector.compat import Compat
from detector.config import DetectorConfig, RegionRules
from detector.constants import FILTER2_CANDIDATE_SHARE, NUM_THRESHOLD_TRIES
from detector.one_class_each import choose_one_class_each


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Regions kept of one image.

    boxes:     (k, 4) float32
    class_ids: (k,) int64       1..C-1
    scores:    (k,) float32     softmax probability of the class
    proposals: (k,) int64       number of the proposal, and of its feature
    """

    boxes: Tensor
    class_ids: Tensor
    scores: Tensor
    proposals: Tensor


def keep_regions(
    class_logits: Tensor,
    box_deltas: Tensor | None,
    proposals: Tensor,
    size: tuple[int, int],
    config: DetectorConfig,
    rules: RegionRules,
    compat: Compat,
) -> Kept:
    """Choose the regions of one image.

    Args:
        class_logits: (n, C) float32.
        box_deltas: (n, 4 * C), (n, 8) if class-agnostic, or None: boxes stay the proposals.
        proposals: (n, 4) float32.
        size: Height and width of the image inside the batch [pixels].
        config: Of the model.
        rules: Filter, threshold, bounds.
        compat: Quirks of the original.

    Source: `specs/detector.md` 5; SGB `roi_heads/box_head/inference.py`.
    """
    probabilities = class_logits.softmax(dim=1)
    boxes = candidate_boxes(box_deltas, proposals, size, config)
    if rules.filter == 0:
        return _keep_per_class(probabilities, boxes, rules)
    if rules.filter == 1:
        return _keep_one_class_each(probabilities, boxes, rules)
    return _keep_class_agnostic(probabilities, boxes, rules, compat)


def name_forced_boxes(class_logits: Tensor, boxes: Tensor, size: tuple[int, int]) -> Kept:
    """Best class of boxes that were given: order and number stay, boxes are clipped, not refined.

    Args:
        class_logits: (n, C) float32, from the boxes as given.
        boxes: (n, 4) float32.
        size: Height and width of the image inside the batch [pixels].

    Source: `specs/detector.md` 5, "Forced boxes".
    """
    scores, best = class_logits.softmax(dim=1)[:, 1:].max(dim=1)
    everyone = torch.arange(len(boxes), device=boxes.device)
    return Kept(boxes=clip(boxes, *size), class_ids=best + 1, scores=scores, proposals=everyone)


def candidate_boxes(
    box_deltas: Tensor | None, proposals: Tensor, size: tuple[int, int], config: DetectorConfig
) -> Tensor:
    """Box of each proposal for each class, clipped: (n, G, 4).

    G = 1 where all classes share it: boxes not refined, or class-agnostic refinement, whose last
    four deltas count.
    """
    if box_deltas is None:
        boxes = proposals[:, None]
    elif config.class_agnostic_boxes:
        boxes = decode(proposals[:, None], box_deltas[:, None, -4:], config.box_weights)
    else:
        moves = box_deltas.reshape(len(proposals), config.num_box_rows, 4)
        boxes = decode(proposals[:, None], moves, config.box_weights)
    return clip(boxes, *size)


def _box_of(boxes: Tensor, proposals: Tensor, class_ids: Tensor) -> Tensor:
    """(n, G, 4), (k,), (k,) -> the k boxes of these proposals for these classes."""
    return boxes[proposals, 0] if boxes.shape[1] == 1 else boxes[proposals, class_ids]


def _keep_per_class(probabilities: Tensor, boxes: Tensor, rules: RegionRules) -> Kept:
    """Filter 0; the threshold is halved while too few are found, ten times at most."""
    threshold = rules.score_threshold
    kept = _per_class_above(probabilities, boxes, threshold, rules)
    for _ in range(NUM_THRESHOLD_TRIES):
        if len(kept.scores) >= rules.min_regions:
            break
        threshold /= 2
        kept = _per_class_above(probabilities, boxes, threshold, rules)
    return kept


def _per_class_above(
    probabilities: Tensor, boxes: Tensor, threshold: float, rules: RegionRules
) -> Kept:
    """Suppression class by class; order: class ascending, then score descending.

    Scores tied with the last that fits are all kept.
    """
    is_candidate = probabilities > threshold
    is_candidate[:, 0] = False
    found: list[Tensor] = []
    of_class: list[Tensor] = []
    for class_id in torch.nonzero(is_candidate.any(dim=0)).flatten():
        members = torch.nonzero(is_candidate[:, class_id]).flatten()
        class_boxes = _box_of(boxes, members, class_id.expand(len(members)))
        survivors = members[nms(class_boxes, probabilities[members, class_id], rules.nms_overlap)]
        found.append(survivors)
        of_class.append(class_id.expand(len(survivors)))
    nothing = torch.zeros(0, dtype=torch.int64, device=boxes.device)
    proposals, class_ids = torch.cat([nothing, *found]), torch.cat([nothing, *of_class])
    scores = probabilities[proposals, class_ids]
    if len(scores) > rules.max_regions > 0:
        cut = scores.kthvalue(len(scores) - rules.max_regions + 1).values
        is_above = scores >= cut
        proposals, class_ids, scores = proposals[is_above], class_ids[is_above], scores[is_above]
    return Kept(
        boxes=_box_of(boxes, proposals, class_ids),
        class_ids=class_ids,
        scores=scores,
        proposals=proposals,
    )


def _keep_one_class_each(probabilities: Tensor, boxes: Tensor, rules: RegionRules) -> Kept:
    """Filter 1; the original's halving of the threshold cannot change anything and is left out."""
    chosen = choose_one_class_each(
        probabilities.cpu().numpy(),
        boxes.cpu().numpy(),
        threshold=rules.score_threshold,
        fewest=rules.min_regions,
        most=rules.max_regions,
    )
    proposals = torch.from_numpy(chosen.proposals).to(boxes.device)
    class_ids = torch.from_numpy(chosen.class_ids).to(boxes.device)
    return Kept(
        boxes=_box_of(boxes, proposals, class_ids),
        class_ids=class_ids,
        scores=probabilities[proposals, class_ids],
        proposals=proposals,
    )


def _keep_class_agnostic(
    probabilities: Tensor, boxes: Tensor, rules: RegionRules, compat: Compat
) -> Kept:
    """Filter 2; with per-class boxes, suppression goes by the mean box over all classes."""
    scores, best = probabilities[:, 1:].max(dim=1)
    class_ids = best + 1
    suppression_boxes = boxes.mean(dim=1) if boxes.shape[1] > 1 else boxes[:, 0]
    is_candidate = (suppression_boxes[:, 2:] >= suppression_boxes[:, :2]).all(dim=1)
    is_candidate &= scores > FILTER2_CANDIDATE_SHARE * rules.score_threshold
    candidates = torch.nonzero(is_candidate).flatten()
    survivors = candidates[
        nms(suppression_boxes[candidates], scores[candidates], rules.nms_overlap)
    ]
    num_good = int((scores[survivors] >= rules.score_threshold).sum())
    kept = survivors[: min(max(num_good, rules.min_regions), rules.max_regions)]
    if compat.filter2_takes_wrong_boxes:
        kept_boxes = boxes.reshape(-1, 4)[kept]
    else:
        kept_boxes = _box_of(boxes, kept, class_ids[kept])
    return Kept(boxes=kept_boxes, class_ids=class_ids[kept], scores=scores[kept], proposals=kept)
