"""From the anchors in a checkpoint back to the sizes and aspect ratios that made them.

Letters: A anchors per cell.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from detector.anchors import cell_anchors
from detector.constants import ANCHOR_STRIDE
from detector.errors import CheckpointError

_SLACK = 1e-3  # pixels; float32 anchors of 1000 pixels are good to 6e-5
_USUAL_RATIOS = (1.0, 0.5, 2.0, 0.4, 2.5, 0.25, 4.0, 0.333, 3.0)
_AREA = ANCHOR_STRIDE * ANCHOR_STRIDE


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorShapes:
    """Side lengths [pixels] and ratios (height / width) of the anchors of a cell."""

    sizes: tuple[float, ...]
    ratios: tuple[float, ...]


def shapes_of_anchors(cells: Tensor, source: str) -> AnchorShapes:
    """Sizes and ratios whose `cell_anchors` are the given ones.

    Ratios come from the rounded base windows, so several may give the same anchors; a usual one is
    preferred.

    Args:
        cells: (A, 4) as in the file: ratios outer, sizes inner.
        source: What to call the file in an error.

    Raises:
        CheckpointError: No sizes and ratios make such anchors.
    """
    if cells.ndim == 2 and cells.shape[1] == 4 and len(cells):
        extents = (cells[:, 2:] - cells[:, :2] + 1).double()
        for num_ratios in range(1, len(cells) + 1):
            shapes = _guess(extents, num_ratios) if len(cells) % num_ratios == 0 else None
            if shapes is not None and _makes(shapes, cells):
                return shapes
    raise CheckpointError(
        f"{source}: the anchors in it are not those of any sizes and aspect ratios at stride "
        f"{ANCHOR_STRIDE}; is it a network with a feature pyramid?"
    )


def _guess(extents: Tensor, num_ratios: int) -> AnchorShapes | None:
    """Sizes of the first group, and a ratio for each group; None where none fits."""
    groups = extents.view(num_ratios, -1, 2)
    first = _base_windows(groups[0, 0])
    for base_width, _ in first:
        scales = groups[0, :, 0] / base_width
        ratios = [_ratio(group / scales[:, None]) for group in groups]
        known = [ratio for ratio in ratios if ratio is not None]
        if len(known) == num_ratios:
            sizes = (_tidy(float(scale) * ANCHOR_STRIDE) for scale in scales)
            return AnchorShapes(sizes=tuple(sizes), ratios=tuple(known))
    return None


def _base_windows(extent: Tensor) -> list[tuple[int, int]]:
    """Base windows (width, height) of the shape of an anchor, as near to the area as can be."""
    width, height = float(extent[0]), float(extent[1])
    candidates = ((w, round(w * height / width)) for w in range(1, _AREA + 1))
    alike = [(w, h) for w, h in candidates if h and abs(w * height - h * width) <= _SLACK * w * w]
    return sorted(alike, key=lambda window: abs(window[0] * window[1] - _AREA))[:8]


def _ratio(windows: Tensor) -> float | None:
    """The aspect ratio of a group whose base windows are given, one row a size."""
    base = windows[0].round()
    if base.min() < 1 or not torch.allclose(windows, base.expand_as(windows), atol=0.02, rtol=0):
        return None
    width, height = int(base[0]), int(base[1])
    usual = (ratio for ratio in _USUAL_RATIOS if _base_window(ratio) == (width, height))
    low = max(_AREA / (width + 0.5) ** 2, (height - 0.5) / width)
    high = min(_AREA / (width - 0.5) ** 2, (height + 0.5) / width)
    return next(usual, _short_decimal(low, high) if low < high else None)


def _base_window(ratio: float) -> tuple[int, int]:
    """Width and height from which `cell_anchors` scales the anchors of a ratio."""
    width = round(math.sqrt(_AREA / ratio))
    return width, round(width * ratio)


def _short_decimal(low: float, high: float) -> float:
    """The number between with the fewest decimals, near the middle."""
    middle = (low + high) / 2
    rounded = (round(middle, places) for places in range(12))
    return next((number for number in rounded if low < number < high), middle)


def _tidy(size: float) -> float:
    """Without the dust of float32."""
    for places in (0, 1, 2, 3):
        if abs(size - round(size, places)) < _SLACK / 10:
            return round(size, places)
    return size


def _makes(shapes: AnchorShapes, cells: Tensor) -> bool:
    made = cell_anchors(shapes.sizes, shapes.ratios, ANCHOR_STRIDE)
    return torch.allclose(made, cells.float().cpu(), atol=_SLACK, rtol=0)
