"""Pooling of regions from the C4 map.

Letters: B images, R regions of all images together, P bins per side.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align


def numbered(boxes: Sequence[Tensor]) -> Tensor:
    """B tensors (n, 4) -> (R, 5): the number of the image before the corners."""
    numbers = [group.new_full((len(group), 1), image) for image, group in enumerate(boxes)]
    return torch.cat((torch.cat(numbers), torch.cat(list(boxes))), dim=1)


def pool_regions(
    c4: Tensor,
    boxes: Sequence[Tensor] | Tensor,
    *,
    pooled_size: int,
    stride: int,
    sampling_ratio: int,
) -> Tensor:
    """Bilinear samples of the map, averaged in P x P bins per box.

    x2 and y2 are used as they are, without the 1 of inclusive boxes; a side is at least one cell.

    Args:
        c4: (B, C4, h, w) float32.
        boxes: B tensors (n, 4) float32, pixels of the network input, not clipped here; or all of
            them `numbered`.
        pooled_size: P.
        stride: Pixels per cell.
        sampling_ratio: Points per bin and axis; 0 = as many as cells the bin covers, rounded up.

    Returns:
        (R, C4, P, P), regions of the first image first.

    Source: `specs/detector.md` 4.5 (torchvision's operator, aligned=False).
    """
    pooled: Tensor = roi_align(
        c4,
        boxes if isinstance(boxes, Tensor) else list(boxes),
        output_size=pooled_size,
        spatial_scale=1.0 / stride,
        sampling_ratio=sampling_ratio,
        aligned=False,
    )
    return pooled
