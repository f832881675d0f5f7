"""Arithmetic of boxes: deltas, clipping, overlap.

A box is x1, y1, x2, y2 in pixels of the network input with x2 and y2 inside the box, so its width
is x2 - x1 + 1. Letters: K boxes.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from detector.config import DetectorConfig
from detector.constants import LARGEST_SCALE_RATIO

_LARGEST_LOG_SCALE = math.log(LARGEST_SCALE_RATIO)


def decode(boxes: Tensor, deltas: Tensor, weights: Sequence[float]) -> Tensor:
    """Move boxes by deltas.

    Args:
        boxes: (K, 4) or (..., 4) float32.
        deltas: (..., 4) float32  dx, dy, dw, dh, broadcast against `boxes`.
        weights: Divisors of dx, dy, dw, dh. Scale is capped at 1000/16 after the division.

    Returns:
        (..., 4) float32, not clipped to any image.

    Source: `specs/detector.md` 4.4; maskrcnn-benchmark `modeling/box_coder.py`.
    """
    widths, heights, centres_x, centres_y = _sizes_and_centres(boxes)
    new_x = deltas[..., 0] / weights[0] * widths + centres_x
    new_y = deltas[..., 1] / weights[1] * heights + centres_y
    new_widths = torch.exp((deltas[..., 2] / weights[2]).clamp(max=_LARGEST_LOG_SCALE)) * widths
    new_heights = torch.exp((deltas[..., 3] / weights[3]).clamp(max=_LARGEST_LOG_SCALE)) * heights
    return torch.stack(
        (
            new_x - 0.5 * new_widths,
            new_y - 0.5 * new_heights,
            new_x + 0.5 * new_widths - 1,
            new_y + 0.5 * new_heights - 1,
        ),
        dim=-1,
    )


def encode(boxes: Tensor, targets: Tensor, weights: Sequence[float]) -> Tensor:
    """Deltas that move boxes onto targets; the inverse of `decode` below its cap.

    Args:
        boxes: (K, 4) float32.
        targets: (K, 4) float32.
        weights: Factors of dx, dy, dw, dh.

    Returns:
        (K, 4) float32.

    Source: `specs/detector.md` 4.4; maskrcnn-benchmark `modeling/box_coder.py`.
    """
    widths, heights, centres_x, centres_y = _sizes_and_centres(boxes)
    to_widths, to_heights, to_x, to_y = _sizes_and_centres(targets)
    return torch.stack(
        (
            weights[0] * (to_x - centres_x) / widths,
            weights[1] * (to_y - centres_y) / heights,
            weights[2] * torch.log(to_widths / widths),
            weights[3] * torch.log(to_heights / heights),
        ),
        dim=-1,
    )


def clip(boxes: Tensor, height: int, width: int) -> Tensor:
    """Boxes (..., 4) moved into an image: x into [0, width - 1], y into [0, height - 1].

    A box wholly outside collapses onto the border with no area; none is dropped.
    """
    across, down = boxes[..., 0::2].clamp(0, width - 1), boxes[..., 1::2].clamp(0, height - 1)
    return torch.stack((across, down), dim=-1).flatten(start_dim=-2)


def corners_to_pool(boxes: Tensor, config: DetectorConfig) -> Tensor:
    """Corners from which regions are pooled: (K, 4) boxes -> (K, 4).

    As they are, or for detectron2's conventions with x2 and y2 outside the box and all of them
    half a cell further up and left, which is what its "aligned" pooling does (but for boxes
    smaller than a cell, which it does not widen to one).

    Source: detectron2 `layers/roi_align.py`.
    """
    if config.conventions == "maskrcnn":
        return boxes
    half = config.anchor_stride / 2
    return torch.cat((boxes[:, :2] - half, boxes[:, 2:] + (1 - half)), dim=1)


def overlap(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of (K, 4) with (L, 4) boxes, sides counted inclusively; (K, L).

    For matching in training. Suppression uses torchvision's operator, which does not add 1.

    Source: maskrcnn-benchmark `structures/boxlist_ops.py:boxlist_iou`.
    """
    top_left = torch.maximum(first[:, None, :2], second[None, :, :2])
    bottom_right = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    intersection = (bottom_right - top_left + 1).clamp(min=0).prod(dim=2)
    first_area = (first[:, 2:] - first[:, :2] + 1).prod(dim=1)
    second_area = (second[:, 2:] - second[:, :2] + 1).prod(dim=1)
    return intersection / (first_area[:, None] + second_area[None] - intersection)


def _sizes_and_centres(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Widths, heights, centres in x and in y of (..., 4) boxes."""
    widths = boxes[..., 2] - boxes[..., 0] + 1
    heights = boxes[..., 3] - boxes[..., 1] + 1
    return widths, heights, boxes[..., 0] + 0.5 * widths, boxes[..., 1] + 0.5 * heights
