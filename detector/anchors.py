"""Anchors: the boxes that proposals start from.

Letters: A anchors per cell, h x w cells, K = h * w * A. Boxes are inclusive pixels of the network
input.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from detector.config import DetectorConfig


def cell_anchors(sizes: Sequence[float], aspect_ratios: Sequence[float], stride: int) -> Tensor:
    """Anchors of the cell at the origin; ratios outer, sizes inner.

    Sides of the base window are rounded per ratio before they are scaled, so areas of different
    ratios are not equal.

    Args:
        sizes: Side lengths of the square anchor [pixels].
        aspect_ratios: Height over width.
        stride: Side of a cell and of the base window [pixels].

    Returns:
        (A, 4) float32; the first of the published ones is [-15, -4, 30, 19].

    Source: `specs/detector.md` 4.3; maskrcnn-benchmark `modeling/rpn/anchor_generator.py`.
    """
    ratios = np.asarray(aspect_ratios, dtype=np.float64)
    base_widths = np.round(np.sqrt(stride * stride / ratios))
    base_heights = np.round(base_widths * ratios)
    scales = np.asarray(sizes, dtype=np.float64) / stride
    widths = (base_widths[:, None] * scales).ravel()
    heights = (base_heights[:, None] * scales).ravel()
    centre = 0.5 * (stride - 1)
    anchors = np.stack(
        (
            centre - 0.5 * (widths - 1),
            centre - 0.5 * (heights - 1),
            centre + 0.5 * (widths - 1),
            centre + 0.5 * (heights - 1),
        ),
        axis=1,
    )
    return torch.from_numpy(anchors.astype(np.float32))


def configured_cell_anchors(config: DetectorConfig) -> Tensor:
    """Anchors of the cell at the origin as a detector's configuration has them; (A, 4) float32."""
    if config.conventions == "detectron2":
        return unrounded_cell_anchors(config.anchor_sizes, config.aspect_ratios)
    return cell_anchors(config.anchor_sizes, config.aspect_ratios, config.anchor_stride)


def unrounded_cell_anchors(sizes: Sequence[float], aspect_ratios: Sequence[float]) -> Tensor:
    """Anchors of detectron2's cell at the origin, in inclusive pixels and our order.

    All of a size have the same area; their middle is the corner of the cell.

    Args:
        sizes: Side lengths of the square anchor [pixels].
        aspect_ratios: Height over width.

    Returns:
        (A, 4) float32, ratios outer, sizes inner; x2 and y2 are 1 less than detectron2's.

    Source: detectron2 `modeling/anchor_generator.py:DefaultAnchorGenerator`, offset 0.
    """
    roots = np.sqrt(np.asarray(aspect_ratios, dtype=np.float64))[:, None]
    sides = np.asarray(sizes, dtype=np.float64)
    half_widths, half_heights = (sides / roots).ravel() / 2, (sides * roots).ravel() / 2
    anchors = np.stack(
        (-half_widths, -half_heights, half_widths - 1, half_heights - 1),
        axis=1,
    )
    return torch.from_numpy(anchors.astype(np.float32))


def anchors_on_map(cell: Tensor, height: int, width: int, stride: int) -> Tensor:
    """Anchors of every cell of a feature map, in the order y, x, anchor.

    Args:
        cell: (A, 4) float32 from `cell_anchors`.
        height: Cells of the map; those over padding count.
        width: As `height`.
        stride: Side of a cell [pixels].

    Returns:
        (height * width * A, 4) float32.
    """
    across = torch.arange(0, width * stride, stride, dtype=torch.float32, device=cell.device)
    down = torch.arange(0, height * stride, stride, dtype=torch.float32, device=cell.device)
    offsets_y, offsets_x = torch.meshgrid(down, across, indexing="ij")
    offsets = torch.stack((offsets_x, offsets_y, offsets_x, offsets_y), dim=-1)
    return (offsets.reshape(-1, 1, 4) + cell).reshape(-1, 4)


def visible_anchors(anchors: Tensor, height: int, width: int) -> Tensor:
    """Which anchors lie wholly inside an image of that size; (K,) bool.

    Only training asks: at detection all anchors take part.
    """
    return (
        (anchors[:, 0] >= 0)
        & (anchors[:, 1] >= 0)
        & (anchors[:, 2] < width)
        & (anchors[:, 3] < height)
    )
