"""What a model gets to see of each image: region inputs, tags, and the detector's own words.

Letters: N regions kept, F region input width.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oscar_core.errors import TaskError
from oscar_core.regions import region_inputs
from storage.library import Library
from storage.records import ImageTags
from storage.region_shards import RegionReader


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewSettings:
    """How much of an image a model sees.

    Attributes:
        max_regions: The most confident ones. 50 in the published recipes (70 in retrieval).
        min_confidence: Less confident regions are left out; the most confident one stays.
        has_tags: Whether the tags are given as text.
        has_tag_attributes: Put the best attribute before each tag.
    """

    max_regions: int = 50
    min_confidence: float = 0.0
    has_tags: bool = True
    has_tag_attributes: bool = False

    def __post_init__(self) -> None:
        """Refuse a view of nothing."""
        if self.max_regions < 1:
            raise TaskError(f"max_regions must be at least 1, not {self.max_regions}")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One image as a model sees it.

    regions: (N, F) float32, most confident first
    tags:    the regions' words joined by blanks, "" without
    words:   N tuples: the class word, then attribute words by falling score; "" left out
    """

    regions: NDArray[np.float32]
    tags: str
    words: tuple[tuple[str, ...], ...]


_REMEMBERED_BYTES = 1 << 26


class Views(Mapping[str, View]):
    """Views by image id; those looked at last are kept, up to 64 MiB of regions.

    Regions and tags may come from other images (`Library.with_swapped`); each is cut by the
    confidences of the image it comes from.
    """

    def __init__(self, library: Library, settings: ViewSettings) -> None:
        self._library = library
        self._settings = settings
        self._made: OrderedDict[str, View] = OrderedDict()
        self._num_bytes = 0

    def __getitem__(self, image_id: str) -> View:
        view = self._made.get(image_id)
        if view is not None:
            self._made.move_to_end(image_id)
            return view
        view = self._made[image_id] = self._make(image_id)
        self._num_bytes += view.regions.nbytes
        while self._num_bytes > _REMEMBERED_BYTES and len(self._made) > 1:
            _, oldest = self._made.popitem(last=False)
            self._num_bytes -= oldest.regions.nbytes
        return view

    def __iter__(self) -> Iterator[str]:
        return iter(self._library.regions)

    def __len__(self) -> int:
        return len(self._library.regions)

    def tags(self, image_id: str) -> str:
        """The tags of a view; where every region counts, no region is read for them."""
        known = self._made.get(image_id)
        return known.tags if known is not None else self._told(self._library.tags_of(image_id))

    def row_groups(self, image_ids: Sequence[str]) -> NDArray[np.int32] | None:
        """What is read together: the row group of each image, in the order of storage.

        None where regions are only in memory.
        """
        regions = self._library.regions
        if not isinstance(regions, RegionReader):
            return None
        return np.array([regions.group_of(image_id) for image_id in image_ids], np.int32)

    def _make(self, image_id: str) -> View:
        seen = self._library.regions_of(image_id)
        kept = self._kept(seen.confidences)
        said = self._library.tags_of(image_id)
        words = tuple(
            tuple(word for word in (tag, *attributes) if word)
            for tag, attributes in zip(said.tags, said.attributes, strict=True)
        )
        return View(
            regions=region_inputs(seen, self._library.geometry)[:kept].copy(),
            tags=self._told(said),
            words=words[:kept],
        )

    def _told(self, said: ImageTags) -> str:
        if not self._settings.has_tags:
            return ""
        spoken = min(len(said.tags), self._settings.max_regions)
        if self._settings.min_confidence > 0.0:
            spoken = self._kept(self._library.regions[said.image_id].confidences)
        tags = (self._tag(said.tags[i], said.attributes[i]) for i in range(spoken))
        return " ".join(filter(None, tags))

    def _kept(self, confidences: NDArray[np.float32]) -> int:
        """How many leading regions are shown; confidences fall."""
        num = int((confidences >= self._settings.min_confidence).sum())
        return min(max(num, 1), self._settings.max_regions, len(confidences))

    def _tag(self, tag: str, attributes: tuple[str, ...]) -> str:
        if self._settings.has_tag_attributes and attributes and tag:
            return f"{attributes[0]} {tag}"
        return tag
