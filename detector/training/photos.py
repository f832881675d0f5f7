"""The photos a detector learns from: resized pixels in memory, with the truth in their frame.

Letters: G true objects of one image, A attribute slots.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from detector.config import DetectorConfig
from detector.constants import STAND_IN_ATTRIBUTE
from detector.errors import DetectorError
from detector.preprocess import resize
from detector.training.targets import Truth
from storage.errors import UnreadableImageError
from storage.images import decode
from storage.published.label_maps import LabelMap, label_map_of
from storage.records import ImageObjects, ImageSource, Quarantined

ATTRIBUTE_SLOTS = 16  # specs/detector.md 13: the list of an object's attributes is padded to this
_SMALLEST_SIDE = 1.0  # [pixels of the network input]; thinner boxes are left out


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPhoto:
    """One photo with at least one true object.

    size:  (height, width) of the network input [pixels]
    truth: in pixels of the network input
    """

    source: ImageSource
    size: tuple[int, int]
    truth: Truth


class TrainingPhotos:
    """Photos by number; pixels stay in memory up to a bound, others are read again.

    Attributes:
        config: the input size.
        photos: those that can be used, in the order of the objects.
        quarantined: those that cannot be read, or do not have the size their boxes were drawn on.
    """

    def __init__(
        self,
        sources: Sequence[ImageSource],
        objects: Sequence[ImageObjects],
        label_map: LabelMap,
        config: DetectorConfig,
        *,
        cache_bytes: int,
        workers: int = 2,
        on_photo: Callable[[int, int], None] | None = None,
    ) -> None:
        """Read every photo once.

        Args:
            sources: The photos; those without objects are left out.
            objects: What they show, joined by image id.
            label_map: Names that are learned; objects of other classes are left out.
            config: Input size.
            cache_bytes: Most bytes of pixels that are kept.
            workers: Threads that read.
            on_photo: Told (done, total) as photos are read.

        Raises:
            DetectorError: Nothing is left to learn from.
        """
        self.config = config
        self._pixels: dict[int, NDArray[np.uint8]] = {}
        self.photos: list[TrainingPhoto] = []
        self.quarantined: list[Quarantined] = []
        source_by_id = {source.image_id: source for source in sources}
        joined = [
            (source_by_id[shown.image_id], shown)
            for shown in objects
            if shown.image_id in source_by_id
        ]
        free = cache_bytes
        read = _read_all([source for source, _ in joined], config, workers)
        for number, ((source, shown), found) in enumerate(zip(joined, read, strict=True), start=1):
            if on_photo is not None:
                on_photo(number, len(joined))
            if isinstance(found, Quarantined):
                self.quarantined.append(found)
                continue
            pixels, original_size = found
            if original_size != (shown.height, shown.width):
                self.quarantined.append(_wrong_size(source, shown, original_size))
                continue
            size = (int(pixels.shape[0]), int(pixels.shape[1]))
            truth = truth_of(shown, label_map, size)
            if len(truth.boxes) == 0:
                continue
            if pixels.nbytes <= free:
                self._pixels[len(self.photos)] = pixels
                free -= pixels.nbytes
            self.photos.append(TrainingPhoto(source=source, size=size, truth=truth))
        if not self.photos:
            raise DetectorError(
                f"no photo to train a detector on: {len(objects)} images with boxes, "
                f"{len(sources)} photos, {len(joined)} in both, {len(self.quarantined)} of them "
                "unreadable; check namespaces and the split of the annotations"
            )

    def __len__(self) -> int:
        """Number of photos."""
        return len(self.photos)

    def pixels(self, number: int) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB, resized."""
        kept = self._pixels.get(number)
        if kept is not None:
            return kept
        return resize(decode(self.photos[number].source).pixels, self.config)


def truth_of(shown: ImageObjects, label_map: LabelMap, size: tuple[int, int]) -> Truth:
    """True objects in the frame of a network input of that size; crowds are left out.

    Attributes beyond the slots, repeated ones and those the label map does not have are dropped.
    """
    scale = np.array([size[1] / shown.width, size[0] / shown.height] * 2, dtype=np.float32)
    boxes: list[NDArray[np.float32]] = []
    class_ids: list[int] = []
    attributes: list[list[int]] = []
    for box, name, named, is_crowd in zip(
        shown.boxes, shown.class_names, shown.attributes, shown.is_crowd, strict=True
    ):
        class_id = label_map.class_id(name)
        scaled = box * scale
        sides = scaled[2:] - scaled[:2] + 1
        if class_id is None or is_crowd or sides.min() < _SMALLEST_SIDE:
            continue
        known = dict.fromkeys(label_map.attribute_id(attribute) for attribute in named)
        ids = [number for number in known if number is not None][:ATTRIBUTE_SLOTS]
        boxes.append(scaled)
        class_ids.append(class_id)
        attributes.append(ids + [0] * (ATTRIBUTE_SLOTS - len(ids)))
    return Truth(
        boxes=torch.from_numpy(np.array(boxes, dtype=np.float32).reshape(-1, 4)),
        class_ids=torch.tensor(class_ids, dtype=torch.int64),
        attributes=torch.tensor(attributes, dtype=torch.int64).reshape(-1, ATTRIBUTE_SLOTS),
    )


def label_map_from(objects: Sequence[ImageObjects]) -> LabelMap:
    """Every class and attribute that occurs, by falling frequency, equal ones by name."""
    class_counts: dict[str, int] = {}
    attribute_counts: dict[str, int] = {}
    for shown in objects:
        for name, named in zip(shown.class_names, shown.attributes, strict=True):
            class_counts[name] = class_counts.get(name, 0) + 1
            for attribute in set(named):
                attribute_counts[attribute] = attribute_counts.get(attribute, 0) + 1
    # Both heads need something to tell apart, so a data set without attributes gets one name.
    return label_map_of(
        _by_frequency(class_counts), _by_frequency(attribute_counts) or [STAND_IN_ATTRIBUTE]
    )


def _by_frequency(counts: dict[str, int]) -> list[str]:
    return sorted(counts, key=lambda name: (-counts[name], name))


def _read_all(
    sources: Sequence[ImageSource], config: DetectorConfig, workers: int
) -> Iterator[tuple[NDArray[np.uint8], tuple[int, int]] | Quarantined]:
    """Resized pixels and original size of each photo in order, a few read ahead."""

    def read(source: ImageSource) -> tuple[NDArray[np.uint8], tuple[int, int]] | Quarantined:
        try:
            pixels = decode(source).pixels
        except UnreadableImageError as error:
            return Quarantined(image_id=source.image_id, reason=error.reason, detail=error.detail)
        return resize(pixels, config), (int(pixels.shape[0]), int(pixels.shape[1]))

    block = 16 * workers
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        for start in range(0, len(sources), block):
            yield from pool.map(read, sources[start : start + block])


def _wrong_size(
    source: ImageSource, shown: ImageObjects, original_size: tuple[int, int]
) -> Quarantined:
    height, width = original_size
    return Quarantined(
        image_id=source.image_id,
        reason="size-mismatch",
        detail=f"{source.path}: {width} x {height} pixels, its boxes were drawn on "
        f"{shown.width} x {shown.height}",
    )
