"""From a batch of network inputs to the detections of each image, still as tensors.

Letters: B images, n proposals and k detections of one image, D feature width, A attributes,
K attribute slots. Boxes are inclusive pixels of the network input.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from detector.attributes import KeptAttributes, keep_attributes
from detector.compat import Compat, quirks_of
from detector.config import RegionRules
from detector.engine import Engine
from detector.errors import NotFiniteError
from detector.postprocess import Kept, keep_regions, name_forced_boxes
from detector.preprocess import ModelImages
from detector.proposals import propose


@dataclass(frozen=True, slots=True, kw_only=True)
class Detections:
    """What was found in one image, in the order of the filter; in memory, not on a device.

    boxes:            (k, 4) float32
    class_ids:        (k,) int64
    scores:           (k,) float32
    proposals:        (k,) int64     number of the proposal behind each
    features:         (k, D) float32 of the proposals
    attribute_logits: (k, A) float32 of the final boxes
    attributes:       ids and scores (k, K)
    """

    boxes: Tensor
    class_ids: Tensor
    scores: Tensor
    proposals: Tensor
    features: Tensor
    attribute_logits: Tensor
    attributes: KeptAttributes


@torch.inference_mode()
def see(
    engine: Engine,
    images: ModelImages,
    *,
    rules: RegionRules | None = None,
    compat: Compat | None = None,
    forced_boxes: Sequence[Tensor] | None = None,
) -> list[Detections]:
    """Detect: the network on the engine's device, what is chosen of its numbers in memory.

    A device is waited for once for the proposals of each image, and a few times for the batch.

    Args:
        engine: What computes: a model in evaluation mode, or what `detector.engines` made of it.
        images: The batch.
        rules: Which regions are kept; None takes the detector's own.
        compat: Quirks of the original; None for those of the rules.
        forced_boxes: B tensors (n, 4) to be named instead of searching; clipped in the output
            only, never refined or left out.

    Raises:
        NotFiniteError: The network computes numbers that are not finite.

    Source: `specs/detector.md` 1, 4 to 6.
    """
    rules = rules or engine.config.regions
    compat = compat or quirks_of(rules)
    c4 = engine.trunk(images.pixels.to(engine.device))
    if forced_boxes is None:
        boxes = search(engine, c4, images.sizes)
    else:
        boxes = [group.to(engine.device) for group in forced_boxes]
    counts = [len(group) for group in boxes]
    proposals = _in_memory(torch.cat(boxes), counts)
    features = engine.region_features(c4, boxes)
    class_logits = _in_memory(engine.class_logits(features), counts)
    deltas: Sequence[Tensor | None] = [None] * len(boxes)
    if rules.regress_boxes and forced_boxes is None:
        deltas = _in_memory(engine.box_deltas(features), counts)
    kept = [
        name_forced_boxes(logits, group, size)
        if forced_boxes is not None
        else keep_regions(logits, moves, group, size, engine.config, rules, compat)
        for logits, moves, group, size in zip(
            class_logits, deltas, proposals, images.sizes, strict=True
        )
    ]
    return _with_attributes(engine, c4, proposals, features, kept, rules, compat)


def _in_memory(rows: Tensor, counts: Sequence[int]) -> Sequence[Tensor]:
    """Rows of all images, copied from the device at once, image by image.

    Raises:
        NotFiniteError: They are no numbers; filters would take them for regions that are not there.
    """
    copied = rows.cpu()
    if not bool(copied.isfinite().all()):
        raise NotFiniteError(
            "the network computes numbers that are not finite: its weights are damaged, or too "
            "large for 16 bits (take precision exact)"
        )
    return torch.split(copied, list(counts))


def search(engine: Engine, c4: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Proposals of each image: (B, C4, h, w) -> B tensors (n, 4)."""
    logits, deltas = engine.rpn_head(c4)
    found = propose(
        logits,
        deltas,
        engine.anchors(c4),
        sizes,
        pre_nms_top_n=engine.config.pre_nms_top_n,
        post_nms_top_n=engine.config.post_nms_top_n,
        nms_overlap=engine.config.proposal_nms_overlap,
        min_size=engine.config.proposal_min_size,
    )
    return [proposals.boxes for proposals in found]


def _with_attributes(
    engine: Engine,
    c4: Tensor,
    proposals: Sequence[Tensor],
    features: Tensor,
    kept: Sequence[Kept],
    rules: RegionRules,
    compat: Compat,
) -> list[Detections]:
    """Attributes of what was kept, from the final boxes; these are pooled again only if moved."""
    numbers = [len(chosen.scores) for chosen in kept]
    firsts = accumulate((len(group) for group in proposals), initial=0)
    rows = torch.cat(
        [first + chosen.proposals for first, chosen in zip(firsts, kept, strict=False)]
    )
    final_features = kept_features = features[rows.to(engine.device)]
    is_moved = any(
        not torch.equal(group[chosen.proposals], chosen.boxes)
        for group, chosen in zip(proposals, kept, strict=True)
    )
    if is_moved and rules.pool_attributes_again:
        moved = torch.cat([chosen.boxes for chosen in kept]).to(engine.device)
        final_features = engine.region_features(c4, torch.split(moved, numbers))
    class_ids = torch.cat([chosen.class_ids for chosen in kept]).to(engine.device)
    logits = _in_memory(engine.attribute_logits(final_features, class_ids), numbers)
    return [
        Detections(
            boxes=chosen.boxes,
            class_ids=chosen.class_ids,
            scores=chosen.scores,
            proposals=chosen.proposals,
            features=own_features,
            attribute_logits=own_logits,
            attributes=keep_attributes(own_logits, rules, compat),
        )
        for chosen, own_features, own_logits in zip(
            kept, _in_memory(kept_features, numbers), logits, strict=True
        )
    ]
