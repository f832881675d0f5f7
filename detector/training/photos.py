"""The photos a detector learns from: resized pixels in memory, with the truth in their frame.

Letters: G true objects of one image, A attribute slots.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from detector.config import DetectorConfig
from detector.constants import STAND_IN_ATTRIBUTE
from detector.errors import DetectorError
from detector.preprocess import network_size, resize
from detector.training.sampling import repeat_factors
from detector.training.targets import Truth
from storage.errors import UnreadableImageError
from storage.images import decode
from storage.published.label_maps import LabelMap, label_map_of
from storage.records import ImageObjects, ImageSource, Quarantined

Balance = Literal["none", "classes", "attributes", "both"]
ATTRIBUTE_SLOTS = 16  # specs/detector.md 13: the list of an object's attributes is padded to this
_SMALLEST_SIDE = 1.0  # [pixels of the network input]; thinner boxes are left out


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPhoto:
    """One photo with at least one true object.

    original_size: (height, width) of the photo that its boxes were drawn on [pixels]
    size:          the same of the network input
    truth:         in pixels of the network input
    """

    source: ImageSource
    original_size: tuple[int, int]
    size: tuple[int, int]
    truth: Truth

    def read(self, config: DetectorConfig) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB, resized.

        Raises:
            UnreadableImageError: It cannot be decoded, or is not of the size its boxes were drawn
                on.
        """
        pixels = decode(self.source).pixels
        height, width = pixels.shape[:2]
        if (height, width) != self.original_size:
            raise UnreadableImageError(
                "size-mismatch",
                f"{self.source.place}: {width} x {height} pixels, its boxes were drawn on "
                f"{self.original_size[1]} x {self.original_size[0]}",
            )
        return resize(pixels, config)


class TrainingPhotos:
    """Photos by number; pixels stay in memory up to a bound, others are read when they are wanted.

    Attributes:
        config: the input size.
        photos: those that can be used, in the order of the objects.
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
        """Read as many photos as stay in memory; the others are read when they are wanted.

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
        self._unusable: list[Quarantined] = []
        self._set_aside: dict[int, Quarantined] = {}
        self.photos: list[TrainingPhoto] = []
        joined = _joined(sources, objects)
        shown = [_with_truth(source, each, label_map, config) for source, each in joined]
        wanted = [each for each in shown if len(each.truth.boxes) > 0]
        num_kept = _num_within(cache_bytes, wanted)
        looked = _read_all(wanted[:num_kept], config, workers)
        for number, (photo, found) in enumerate(zip(wanted, looked, strict=False), start=1):
            if on_photo is not None:
                on_photo(number, num_kept)
            if isinstance(found, UnreadableImageError):
                self._unusable.append(_quarantined(photo, found))
                continue
            self._pixels[len(self.photos)] = found
            self.photos.append(photo)
        self.photos += wanted[num_kept:]
        if not self.photos:
            raise DetectorError(
                f"no photo to train a detector on: {len(objects)} images with boxes, "
                f"{len(sources)} photos, {len(joined)} in both, {len(self.quarantined)} of them "
                "unreadable; check namespaces and the split of the annotations"
            )

    def __len__(self) -> int:
        """Number of photos."""
        return len(self.photos)

    @property
    def are_in_memory(self) -> bool:
        """Whether no photo has to be read again."""
        return len(self._pixels) == len(self.photos)

    @property
    def quarantined(self) -> list[Quarantined]:
        """Photos that cannot be read, or do not have the size their boxes were drawn on."""
        return [*self._unusable, *(self._set_aside[each] for each in sorted(self._set_aside))]

    @property
    def num_unusable(self) -> int:
        """Of these, how many were found before the first step; they have no number."""
        return len(self._unusable)

    def set_aside(self, number: int, error: UnreadableImageError) -> None:
        """Tell that a photo that should have been read cannot be; it keeps its number."""
        self._set_aside[number] = _quarantined(self.photos[number], error)

    def repeats(self, balance: Balance, below: float) -> tuple[float, ...] | None:
        """How often each photo comes in an epoch; None for once each.

        Args:
            balance: Whose rare labels count.
            below: Share of the photos under which a label is rare.
        """
        if balance == "none":
            return None
        labels: list[set[int]] = [set() for _ in self.photos]
        for photo, found in zip(self.photos, labels, strict=True):
            if balance in ("classes", "both"):
                found.update(photo.truth.class_ids.tolist())
            if balance in ("attributes", "both"):  # below 0, to be told from classes
                found.update(-each for each in photo.truth.attributes.flatten().tolist() if each)
        return repeat_factors(labels, below=below)

    def pixels(self, number: int) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB, resized.

        Raises:
            UnreadableImageError: It was not read before, and cannot be.
        """
        kept = self._pixels.get(number)
        return kept if kept is not None else self.photos[number].read(self.config)


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


def _joined(
    sources: Sequence[ImageSource], objects: Sequence[ImageObjects]
) -> list[tuple[ImageSource, ImageObjects]]:
    """Photos with what they show, in the order of the objects."""
    source_by_id = {source.image_id: source for source in sources}
    return [
        (source_by_id[shown.image_id], shown) for shown in objects if shown.image_id in source_by_id
    ]


def _with_truth(
    source: ImageSource, shown: ImageObjects, label_map: LabelMap, config: DetectorConfig
) -> TrainingPhoto:
    size = network_size(
        shown.height, shown.width, min_size=config.min_size, max_size=config.max_size
    )
    return TrainingPhoto(
        source=source,
        original_size=(shown.height, shown.width),
        size=size,
        truth=truth_of(shown, label_map, size),
    )


def _num_within(num_bytes: int, photos: Sequence[TrainingPhoto]) -> int:
    """How many of the photos, from the first on, have that many bytes of pixels."""
    for number, photo in enumerate(photos):
        num_bytes -= 3 * photo.size[0] * photo.size[1]
        if num_bytes < 0:
            return number
    return len(photos)


def _read_all(
    photos: Sequence[TrainingPhoto], config: DetectorConfig, workers: int
) -> Iterator[NDArray[np.uint8] | UnreadableImageError]:
    """Resized pixels of each photo in order, a few read ahead, or why there are none."""

    def read(photo: TrainingPhoto) -> NDArray[np.uint8] | UnreadableImageError:
        try:
            return photo.read(config)
        except UnreadableImageError as error:
            return error

    block = 16 * workers
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        for start in range(0, len(photos), block):
            yield from pool.map(read, photos[start : start + block])


def _quarantined(photo: TrainingPhoto, error: UnreadableImageError) -> Quarantined:
    return Quarantined(image_id=photo.source.image_id, reason=error.reason, detail=error.detail)
