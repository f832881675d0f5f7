"""Stored regions -> the rows that the model reads: appearance and six box numbers.

Letters: N regions, D appearance width, F = D + 6.
"""

from itertools import islice

import numpy as np
from numpy.typing import NDArray

from oscar_core.errors import PackingError
from storage.box_numbers import NUM_BOX_NUMBERS, box_numbers, orders_of
from storage.library import Library
from storage.records import HEIGHT_FIRST, INCLUDED, WIDTH_FIRST, ImageRegions

_NUM_LOOKED_AT = 20


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


def geometry_of(library: Library) -> str | None:
    """In which order a library's regions end: `WIDTH_FIRST` or `HEIGHT_FIRST`.

    Where the numbers are stored with the features, the first images tell.

    Returns:
        None where nothing tells, as with square boxes in square images.
    """
    if library.geometry != INCLUDED:
        return library.geometry
    for regions in islice(library.regions.values(), _NUM_LOOKED_AT):
        numbers = regions.features[:, -NUM_BOX_NUMBERS:].astype(np.float32)
        orders = orders_of(numbers, regions.boxes, regions.height, regions.width)
        if len(orders) == 1:
            return orders.pop()
    return None


def check_geometry(library: Library, trained: str | None, model: str) -> None:
    """Refuse regions in another order than a model has learned from.

    Args:
        library: What the model is to read.
        trained: The order it was trained with; None where its folder does not tell.
        model: What to call it in an error.

    Raises:
        PackingError: The orders are known and differ.
    """
    held = geometry_of(library) if trained is not None else None
    if held is not None and held != trained:
        raise PackingError(
            f"{model}: takes regions that end {trained}, these end {held}; take regions of that "
            f"order (a run from photos extracts them: detect.geometry={trained}), or another model"
        )
