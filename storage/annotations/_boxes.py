"""Boxes of annotation files, x, y, width, height, as x1, y1, x2, y2 with both ends inside."""

from collections.abc import Sequence

import numpy as np

from storage.annotations._rows import BrokenRowError
from storage.records import ImageObjects

SLACK = 2.0
"""A box may pass the border by this much unreported: published boxes are rounded [pixels]."""


class BoxList:
    """The boxes of one image while its rows are read."""

    def __init__(self, image_id: str, *, height: int, width: int) -> None:
        self.image_id = image_id
        self.height = height
        self.width = width
        self._boxes: list[tuple[float, ...]] = []
        self._class_names: list[str] = []
        self._attributes: list[tuple[str, ...]] = []
        self._is_crowd: list[bool] = []

    def add(
        self,
        xywh: object,
        class_name: str,
        *,
        attributes: Sequence[str] = (),
        is_crowd: bool = False,
    ) -> str:
        """Take a box, cut to the image.

        Returns:
            What was cut off, "" if nothing to speak of.

        Raises:
            BrokenRowError: Not four finite numbers, no area, or no part inside the image.
        """
        x, y, width, height = _numbers(xywh)
        if width <= 0 or height <= 0:
            raise BrokenRowError("bad-box", f"box {_text(xywh)} has no area")
        whole = (x, y, x + max(width - 1, 0.0), y + max(height - 1, 0.0))
        right, bottom = self.width - 1.0, self.height - 1.0
        if whole[0] > right or whole[1] > bottom or x + width <= 0 or y + height <= 0:
            raise BrokenRowError(
                "bad-box", f"box {_text(xywh)} lies outside the {self.width}x{self.height} image"
            )
        cut = (
            max(whole[0], 0.0),
            max(whole[1], 0.0),
            min(max(whole[2], 0.0), right),
            min(max(whole[3], 0.0), bottom),
        )
        self._boxes.append(cut)
        self._class_names.append(class_name)
        self._attributes.append(tuple(attributes))
        self._is_crowd.append(is_crowd)
        if max(abs(a - b) for a, b in zip(whole, cut, strict=True)) <= SLACK:
            return ""
        return f"box {_text(xywh)} passes the border of the {self.width}x{self.height} image; cut"

    def objects(self, *, split: str, source: str) -> ImageObjects:
        """All boxes so far as a record."""
        return ImageObjects(
            image_id=self.image_id,
            height=self.height,
            width=self.width,
            boxes=np.array(self._boxes, dtype=np.float32).reshape(-1, 4),
            class_names=tuple(self._class_names),
            attributes=tuple(self._attributes),
            is_crowd=np.array(self._is_crowd, dtype=np.bool_),
            split=split,
            source=source,
        )


def _numbers(xywh: object) -> tuple[float, float, float, float]:
    if not isinstance(xywh, list) or len(xywh) != 4:
        raise BrokenRowError("bad-box", f"box {_text(xywh)} is not four numbers")
    for number in xywh:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise BrokenRowError("bad-box", f"box {_text(xywh)} is not four numbers")
        if not abs(number) <= 1e7:  # NaN too; `math.isfinite` fails on huge whole numbers
            raise BrokenRowError("bad-box", f"box {_text(xywh)} holds NaN or a huge number")
    x, y, width, height = map(float, xywh)
    return x, y, width, height


def _text(xywh: object) -> str:
    return " ".join(str(xywh).split())[:80]
