"""Pooling of regions from the C4 map.

Letters: B images, R regions of all images together, P bins per side.
"""

from collections.abc import Sequence

from torch import Tensor
from torchvision.ops import roi_align


def pool_regions(
    c4: Tensor, boxes: Sequence[Tensor], *, pooled_size: int, stride: int, sampling_ratio: int
) -> Tensor:
    """Bilinear samples of the map, averaged in P x P bins per box.

    x2 and y2 are used as they are, without the 1 of inclusive boxes; a side is at least one cell.

    Args:
        c4: (B, C4, h, w) float32.
        boxes: B tensors (n, 4) float32, pixels of the network input; not clipped here.
        pooled_size: P.
        stride: Pixels per cell.
        sampling_ratio: Points per bin and axis; 0 = as many as cells the bin covers, rounded up.

    Returns:
        (R, C4, P, P), regions of the first image first.

    Source: `specs/detector.md` 4.5 (torchvision's operator, aligned=False).
    """
    pooled: Tensor = roi_align(
        c4,
        list(boxes),
        output_size=pooled_size,
        spatial_scale=1.0 / stride,
        sampling_ratio=sampling_ratio,
        aligned=False,
    )
    return pooled
