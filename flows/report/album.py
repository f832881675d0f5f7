"""Small JPEG copies of photos as data URLs, so that the page stands alone."""

import base64
import io
import logging
from collections.abc import Iterable, Sequence
from typing import TypeVar

from PIL import Image

from flows.report.records import Picture
from storage.errors import StorageError
from storage.images import decode
from storage.records import ImageSource

THUMB_SIDE = 192
PHOTO_SIDE = 640
"""Long side of a small and of a large copy [pixels]; photos are never enlarged."""

_QUALITY = 82
_logger = logging.getLogger(__name__)

T = TypeVar("T")


class Album:
    """The photos of a run, opened when they are first shown."""

    def __init__(self, sources: Iterable[ImageSource]) -> None:
        self._sources = {source.image_id: source for source in sources}
        self._pictures: dict[tuple[str, int], Picture] = {}

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._sources

    def __len__(self) -> int:
        return len(self._sources)

    def thumb(self, image_id: str) -> Picture:
        """A copy for lists."""
        return self._picture(image_id, THUMB_SIDE)

    def photo(self, image_id: str) -> Picture:
        """A copy to look at."""
        return self._picture(image_id, PHOTO_SIDE)

    def _picture(self, image_id: str, side: int) -> Picture:
        key = image_id, side
        if key not in self._pictures:
            self._pictures[key] = self._copy(image_id, side)
        return self._pictures[key]

    def _copy(self, image_id: str, side: int) -> Picture:
        source = self._sources.get(image_id)
        if source is None:
            return Picture(image_id=image_id, url="", width=4, height=3)
        try:
            pixels = decode(source).pixels
        except StorageError as error:
            _logger.info("%s", error)
            return Picture(image_id=image_id, url="", width=4, height=3)
        image = Image.fromarray(pixels)
        width, height = image.size
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=_QUALITY, optimize=True)
        url = "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
        return Picture(image_id=image_id, url=url, width=width, height=height)


def spread(things: Sequence[T], num: int) -> list[T]:
    """At most `num` of them at even distances; the choice never looks at a score."""
    if num >= len(things):
        return list(things)
    return [things[(2 * at + 1) * len(things) // (2 * num)] for at in range(num)]
