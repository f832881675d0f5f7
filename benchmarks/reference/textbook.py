"""The detector as the original program computes it: no saving of any kind, for comparison."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import nms

from detector.attributes import KeptAttributes, keep_attributes
from detector.boxes import clip
from detector.compat import Compat
from detector.config import RegionRules
from detector.constants import FILTER1_OVERLAP
from detector.engine import Engine
from detector.preprocess import ModelImages
from detector.see import Detections, search


@torch.inference_mode()
def see_by_the_book(engine: Engine, images: ModelImages) -> list[Detections]:
    """One photo by filter 1: a suppression for each class, attributes from a second pooling.

    Source: `specs/detector.md` 1, 5, 6.
    """
    rules = engine.config.regions
    c4 = engine.trunk(images.pixels)
    boxes = search(engine, c4, images.sizes)
    features = engine.region_features(c4, boxes)
    probabilities = engine.class_logits(features).softmax(dim=1)
    proposals, class_ids, scores = _filter1(probabilities, clip(boxes[0], *images.sizes[0]), rules)
    kept_boxes = clip(boxes[0], *images.sizes[0])[proposals]
    again = engine.region_features(c4, [kept_boxes])
    logits = engine.attribute_logits(again, class_ids)
    attributes: KeptAttributes = keep_attributes(logits, rules, Compat())
    return [
        Detections(
            boxes=kept_boxes,
            class_ids=class_ids,
            scores=scores,
            proposals=proposals,
            features=features[proposals],
            attribute_logits=logits,
            attributes=attributes,
        )
    ]


def _filter1(
    probabilities: Tensor, boxes: Tensor, rules: RegionRules
) -> tuple[Tensor, Tensor, Tensor]:
    """Proposals, classes and scores of what is kept, by falling score."""
    mask = torch.zeros_like(probabilities)
    for class_id in range(1, probabilities.shape[1]):
        mask[nms(boxes, probabilities[:, class_id], FILTER1_OVERLAP), class_id] = 1
    scores, class_ids = (mask * probabilities).max(dim=1)
    number = int((scores >= rules.score_threshold).sum())
    number = min(max(number, rules.min_regions), rules.max_regions)
    order = scores.argsort(descending=True, stable=True)[:number]
    return order, class_ids[order], scores[order]


def multiplications(engine: Engine, cells: int, num_regions: int, num_again: int) -> float:
    """Products that the textbook multiplies for X152-C4 [10^9], of the large layers.

    Args:
        engine: Of the published size.
        cells: Of the C4 map.
        num_regions: Proposals.
        num_again: Regions that are pooled a second time.

    Source: `specs/detector.md` 11, per cell of a 38 x 57 map and per region.
    """
    assert engine.config.blocks == (3, 8, 36)
    return (249.0 + 20.6) * cells / (38 * 57) + 1.715 * (num_regions + num_again)


def needed_multiplications(engine: Engine, cells: int, num_regions: int) -> float:
    """The same for the exact engine: no second pooling, first convolutions of res5 on the map."""
    inside, outside = 1024, 2048
    per_region = (196 + 49) * inside * outside / 1e9
    on_map = 2 * cells * inside * outside / 1e9
    return multiplications(engine, cells, num_regions, 0) - num_regions * per_region + on_map


def same_regions(found: Sequence[Detections], wanted: Sequence[Detections]) -> float:
    """Share of wanted regions for which there is one of the same class and box (half a pixel).

    Numbers of proposals and order are not compared: scores that all but tie change places.
    """
    num_same = num = 0
    for ours, theirs in zip(found, wanted, strict=True):
        distances = (theirs.boxes[:, None] - ours.boxes[None]).abs().amax(dim=2)
        is_same = (distances < 0.5) & (theirs.class_ids[:, None] == ours.class_ids[None])
        num_same += int(is_same.any(dim=1).sum())
        num += len(theirs.boxes)
    return num_same / max(1, num)
