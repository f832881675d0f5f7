"""Which attributes of each region are kept.

Letters: k regions of one image, A attributes with "no attribute" 0, K slots.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from detector.compat import Compat
from detector.config import RegionRules


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAttributes:
    """By falling score, region for region.

    ids:    (k, K) int64    1..A-1; 0 in empty slots
    scores: (k, K) float32  softmax probability; 0 in empty slots
    """

    ids: Tensor
    scores: Tensor


def keep_attributes(logits: Tensor, rules: RegionRules, compat: Compat) -> KeptAttributes:
    """The best attributes of each region above the threshold.

    The original fills empty slots with arbitrary ids of score 0; ours are 0.

    Args:
        logits: (k, A) float32 of one image.
        rules: Threshold, slots, most of one image.
        compat: Quirks of the original.

    Source: `specs/detector.md` 6; SGB `attribute_head/inference.py`.
    """
    scores = logits.softmax(dim=1)
    scores[:, 0] = 0
    scores = torch.where(scores > rules.attribute_threshold, scores, 0.0)
    scores = _limit_per_image(scores, rules, compat)
    slots = rules.max_attributes_per_region
    best, ids = scores.topk(min(slots, scores.shape[1]), dim=1, sorted=True)
    spare = (0, slots - best.shape[1])
    return KeptAttributes(ids=pad(torch.where(best > 0, ids, 0), spare), scores=pad(best, spare))


def _limit_per_image(scores: Tensor, rules: RegionRules, compat: Compat) -> Tensor:
    """(k, A) with all but the best entries of the image set to 0."""
    limit = rules.max_attributes_per_image
    num_entries = int((scores > 0).sum())
    if not 0 < limit < num_entries:
        return scores
    if compat.attribute_cap_counts_zeros:
        cut = scores.flatten().kthvalue(num_entries - limit + 1).values
        return torch.where(scores >= cut, scores, 0.0)
    order = scores.flatten().argsort(descending=True, stable=True)
    limited = scores.flatten().clone()
    limited[order[limit:]] = 0
    return limited.view_as(scores)
