"""Stored regions -> the rows that the model reads: appearance and six box numbers.

Letters: N regions, D appearance width, F = D + 6.
"""

import numpy as np
from numpy.typing import NDArray

from oscar_core.errors import PackingError
from storage.box_numbers import box_numbers
from storage.records import HEIGHT_FIRST, INCLUDED, WIDTH_FIRST, ImageRegions


def region_inputs(regions: ImageRegions, geometry: str = WIDTH_FIRST) -> NDArray[np.float32]:
    """Append x1/W, y1/H, x2/W, y2/H, w/W, h/H to each region's feature; w = x2 - x1.

    Args:
        regions: What the detector saw; order is kept.
        geometry: `WIDTH_FIRST` as above, `HEIGHT_FIRST` with the last two exchanged, or
            `INCLUDED`: the stored features are F wide already and stay as they are.

    Returns:
        (N, F) float32.

    Raises:
        PackingError: `geometry` is none of them.

    Source: microsoft/Oscar issue 10; the order of the last two: `storage.records`.
    """
    if geometry not in (WIDTH_FIRST, HEIGHT_FIRST, INCLUDED):
        raise PackingError(
            f"region geometry {geometry!r} is not known; use {WIDTH_FIRST!r}, {HEIGHT_FIRST!r} "
            f"or {INCLUDED!r}"
        )
    features = np.ascontiguousarray(regions.features, dtype=np.float32)
    if geometry == INCLUDED:
        return features
    numbers = box_numbers(regions.boxes, regions.height, regions.width, geometry)
    return np.ascontiguousarray(np.concatenate([features, numbers], axis=1), dtype=np.float32)
