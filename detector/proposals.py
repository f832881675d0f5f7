"""From the proposal network's numbers to proposals.

Letters: B images, A anchors per cell, K = h * w * A, n proposals of one image.
Boxes are inclusive pixels of the network input.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torchvision.ops import nms

from detector.boxes import clip, decode
from detector.constants import PROPOSAL_WEIGHTS

_LOOK_AHEAD = 3  # times as many boxes as are wanted, and again so many if that was too few


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposals:
    """Proposals of one image, by falling score.

    boxes:  (n, 4) float32  clipped to the image
    scores: (n,) float32    in [0, 1]
    """

    boxes: Tensor
    scores: Tensor


def propose(
    logits: Tensor,
    deltas: Tensor,
    anchors: Tensor,
    sizes: Sequence[tuple[int, int]],
    *,
    pre_nms_top_n: int,
    post_nms_top_n: int,
    nms_overlap: float,
    min_size: int,
) -> list[Proposals]:
    """The best anchors, moved, clipped, suppressed.

    Boxes that lie outside collapse onto the border and stay: without area nothing suppresses them.
    Call it under `torch.no_grad()`.

    Args:
        logits: (B, A, h, w) float32.
        deltas: (B, 4 * A, h, w) float32.
        anchors: (K, 4) float32 in the order y, x, anchor.
        sizes: Height and width of each image's own network input, without padding [pixels].
        pre_nms_top_n: Anchors that go on.
        post_nms_top_n: Proposals that come out.
        nms_overlap: Suppress above this (sides not counted inclusively).
        min_size: Smallest side kept [pixels].

    Source: `specs/detector.md` 4.4; maskrcnn-benchmark `modeling/rpn/inference.py`.
    """
    batch = logits.shape[0]
    scores = logits.permute(0, 2, 3, 1).reshape(batch, -1).sigmoid()
    moves = deltas.permute(0, 2, 3, 1).reshape(batch, -1, 4)
    top_scores, top = scores.topk(min(pre_nms_top_n, scores.shape[1]), dim=1, sorted=True)
    top_moves = moves.gather(1, top[..., None].expand(-1, -1, 4))
    boxes = decode(anchors[top], top_moves, PROPOSAL_WEIGHTS)
    return [
        _suppress(
            clip(boxes[image], height, width),
            top_scores[image],
            post_nms_top_n,
            nms_overlap,
            min_size,
        )
        for image, (height, width) in enumerate(sizes)
    ]


def _suppress(
    boxes: Tensor, scores: Tensor, post_nms_top_n: int, nms_overlap: float, min_size: int
) -> Proposals:
    """Drop small boxes, then those that overlap a better one."""
    if min_size > 0:
        is_large = (boxes[:, 2:] - boxes[:, :2] + 1 >= min_size).all(dim=1)
        boxes, scores = boxes[is_large], scores[is_large]
    kept = _best_apart(boxes, scores, post_nms_top_n, nms_overlap)
    return Proposals(boxes=boxes[kept], scores=scores[kept])


def _best_apart(boxes: Tensor, scores: Tensor, number: int, overlap: float) -> Tensor:
    """Which of boxes sorted by score survive suppression, the best `number` of them.

    Nothing suppresses a better box, so mostly a fraction of the boxes need be looked at.
    """
    num_looked_at = _LOOK_AHEAD * number
    kept: Tensor = nms(boxes[:num_looked_at], scores[:num_looked_at], overlap)
    while len(kept) < number and num_looked_at < len(boxes):
        num_looked_at *= _LOOK_AHEAD
        kept = nms(boxes[:num_looked_at], scores[:num_looked_at], overlap)
    return kept[:number]
