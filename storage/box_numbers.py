"""The six numbers that follow a region's appearance, in either order.

Letters: N regions of one image; W, H width and height of the photo.
"""

import numpy as np
from numpy.typing import NDArray

from storage.records import HEIGHT_FIRST, WIDTH_FIRST

NUM_BOX_NUMBERS = 6


def box_numbers(
    boxes: NDArray[np.float32], height: int, width: int, order: str
) -> NDArray[np.float32]:
    """(N, 6) float32: x1/W, y1/H, x2/W, y2/H and then w/W, h/H, or the last two exchanged.

    Args:
        boxes: (N, 4) float32  x1, y1, x2, y2 in pixels of the photo; w = x2 - x1, h = y2 - y1.
        height: H [pixels].
        width: W [pixels].
        order: `WIDTH_FIRST` or `HEIGHT_FIRST`.

    Source: microsoft/Oscar issue 10; the order of the last two: `storage.records`.
    """
    size = np.array([width, height], dtype=np.float32)
    corners = boxes.astype(np.float32)
    extent = (corners[:, 2:] - corners[:, :2]) / size
    if order == HEIGHT_FIRST:
        extent = extent[:, ::-1]
    return np.concatenate([corners[:, :2] / size, corners[:, 2:] / size, extent], axis=1)


def boxes_from(numbers: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """(N, 4) float32 boxes in pixels of the photo, from (N, 6) of either order."""
    return (numbers[:, :4] * np.array([width, height] * 2, dtype=np.float32)).astype(np.float32)


def orders_of(
    numbers: NDArray[np.float32], boxes: NDArray[np.float32], height: int, width: int
) -> set[str]:
    """In which orders these could be the numbers of these boxes; both where w/W is h/H.

    Args:
        numbers: (N, 6) float32; of another width they are nobody's.
        boxes: (N, 4) float32 in pixels of the photo.
        height: H [pixels].
        width: W [pixels].
    """
    if numbers.shape[1] != NUM_BOX_NUMBERS:
        return set()
    half_pixel = 0.5 / min(height, width)
    return {
        order
        for order in (HEIGHT_FIRST, WIDTH_FIRST)
        if np.allclose(numbers, box_numbers(boxes, height, width, order), rtol=0, atol=half_pixel)
    }
