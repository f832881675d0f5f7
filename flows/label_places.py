"""Where labels go on a picture: beside their boxes, never over one another.

Boxes and places are left, top, right, bottom in pixels of the picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
_FARTHEST = 0.3
"""How far a label may stand from its box, as part of the picture's diagonal."""
_TOUCHING = 1.5  # pixels, for rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A label's place. leader: ends of a line to its box; None where it touches it."""

    area: Box
    leader: tuple[float, float, float, float] | None = None


class LabelPlaces:
    """Hands out places on a picture, one label after the other."""

    def __init__(self, width: int, height: int) -> None:
        self._size = (width, height)
        self._taken: NDArray[np.float64] = np.empty((0, 4))

    def place(self, box: Box, width: int, height: int) -> Place | None:
        """The best free place for a label of a size; None where there is none near its box.

        Along the edges of the box first, then the nearest free one of a grid over the picture.
        """
        if width > self._size[0] or height > self._size[1]:
            return None
        for corners in (_along(box, width, height), self._grid(box, width, height)):
            free = self._free(self._inside(corners, width, height), width, height)
            if len(free):
                return self._take(box, free[0], width, height)
        return None

    def _take(self, box: Box, corner: NDArray[np.float64], width: int, height: int) -> Place:
        left, top = (float(edge) for edge in corner)
        area = (left, top, left + width, top + height)
        self._taken = np.vstack([self._taken, area])
        return Place(area=area, leader=_leader(area, box))

    def _inside(self, corners: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
        """Upper left corners moved so that the labels lie on the picture."""
        return np.clip(np.floor(corners), 0, np.array(self._size) - (width, height))

    def _free(self, corners: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
        """Those where no other label stands, in their order."""
        left, top = corners[:, :1], corners[:, 1:]
        taken = self._taken
        overlaps = (
            (left < taken[:, 2])
            & (left + width > taken[:, 0])
            & (top < taken[:, 3])
            & (top + height > taken[:, 1])
        )
        return corners[~overlaps.any(axis=1)]

    def _grid(self, box: Box, width: int, height: int) -> NDArray[np.float64]:
        """Upper left corners all over the picture, not too far from the box, nearest first."""
        columns = np.arange(0.0, self._size[0] - width + 1, max(width // 6, 1))
        rows = np.arange(0.0, self._size[1] - height + 1, max(height // 2, 1))
        corners = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
        far = _gap(corners, box, width, height)
        near = np.flatnonzero(far <= _FARTHEST * np.hypot(*self._size))
        return corners[near[np.argsort(far[near], kind="stable")]]


def _along(box: Box, width: int, height: int) -> NDArray[np.float64]:
    """Upper left corners of a label at the edges of its box, best first."""
    x1, y1, x2, y2 = box
    return np.array(
        [
            (x1, y1 - height),
            (x2 - width, y1 - height),
            (x1, y2),
            (x2 - width, y2),
            (x2, y1),
            (x1 - width, y1),
            (x1, y1),
            (x2 - width, y1),
            (x1, y2 - height),
            (x2 - width, y2 - height),
        ]
    )


def _gap(corners: NDArray[np.float64], box: Box, width: int, height: int) -> NDArray[np.float64]:
    """Distance between the box and labels at these corners; 0 where they meet."""
    x1, y1, x2, y2 = box
    across = np.maximum(np.maximum(x1 - corners[:, 0] - width, corners[:, 0] - x2), 0)
    down = np.maximum(np.maximum(y1 - corners[:, 1] - height, corners[:, 1] - y2), 0)
    gaps: NDArray[np.float64] = np.hypot(across, down)
    return gaps


def _leader(area: Box, box: Box) -> tuple[float, float, float, float] | None:
    """Ends of the shortest line from a label to the outline of its box; None where they touch."""
    if _touches(area, box):
        return None
    start = _nearest(area, ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
    return (*start, *_nearest(box, start))


def _touches(area: Box, box: Box) -> bool:
    """Whether a label lies at one of the edges of its box, inside or outside."""
    meets_across = area[0] <= box[2] + _TOUCHING and area[2] >= box[0] - _TOUCHING
    meets_down = area[1] <= box[3] + _TOUCHING and area[3] >= box[1] - _TOUCHING
    is_within = (
        area[0] > box[0] + _TOUCHING
        and area[2] < box[2] - _TOUCHING
        and area[1] > box[1] + _TOUCHING
        and area[3] < box[3] - _TOUCHING
    )
    return meets_across and meets_down and not is_within


def _nearest(box: Box, point: Sequence[float]) -> tuple[float, float]:
    """The point of a box's outline that is nearest to another point."""
    x1, y1, x2, y2 = box
    x, y = min(max(point[0], x1), x2), min(max(point[1], y1), y2)
    if (x, y) != tuple(point):
        return x, y
    edges = {x - x1: (x1, y), x2 - x: (x2, y), y - y1: (x, y1), y2 - y: (x, y2)}
    return edges[min(edges)]
