"""Many photos to region shards, slice by slice: decoding in threads while the network computes.

A slice of the list of photos becomes one shard. On a CPU each photo is computed by itself, by one
thread, and as many at once as there are threads: its regions depend on nothing but the photo. On
other devices photos of one network size share a batch, and a batch never leaves its slice. So
whoever makes a shard, now or after an interruption, writes the same bytes.
"""

from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, islice
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from detector.compat import Compat
from detector.config import RegionRules, describe_rules
from detector.detect import regions_of
from detector.folding import fold_norms
from detector.loaded import LoadedDetector
from detector.model import AttributeRCNN
from detector.preprocess import resize, to_batch
from detector.see import see
from storage.errors import UnreadableImageError
from storage.images import decode, read_photo
from storage.places import Place
from storage.published.label_maps import LabelMap
from storage.records import ImageRegions, ImageSource, Quarantined
from storage.region_slices import (
    RegionSettings,
    ShardReport,
    SliceKey,
    as_stored,
    read_slice,
    slice_key,
    write_slice,
)

_BATCHES_PER_WINDOW = 4  # enough to find company for odd sizes, few enough to hold in memory


class KnownRegions(Protocol):
    """Regions of earlier extractions: `storage.earlier_regions.EarlierRegions`."""

    @property
    def hashes(self) -> Container[str]:
        """Content hashes of all its photos."""
        ...

    def find(self, image_id: str, content_hash: str) -> ImageRegions | None:
        """The record of a photo of these bytes, under the given id; None if there is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A stretch of the list of photos; it becomes one shard.

    photos:   those to be seen, in the order of the list
    repeated: those whose id came before, here or in an earlier slice
    """

    key: SliceKey
    photos: tuple[ImageSource, ...]
    repeated: tuple[Quarantined, ...]

    def __len__(self) -> int:
        return len(self.photos) + len(self.repeated)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extractor:
    """Everything that a slice needs to become a shard, but the slice.

    model:      in evaluation mode, normalisation folded
    settings:   of the shards
    rules:      which regions are kept
    workers:    threads that read and resize photos; results do not depend on them
    batch_size: most photos of one size that are computed together; another one changes results
                by rounding only
    seers:      batches that are computed at once, each by one thread; 0: one after the other, with
                all threads
    compat:     quirks of the original; None for none
    earlier:    photos of these bytes are not seen again
    """

    model: AttributeRCNN
    label_map: LabelMap
    settings: RegionSettings
    rules: RegionRules
    workers: int = 1
    batch_size: int = 1
    seers: int = 0
    compat: Compat | None = None
    earlier: KnownRegions | None = None

    @property
    def window(self) -> int:
        """Photos that are held in memory together."""
        return _BATCHES_PER_WINDOW * self.batch_size * max(1, self.seers)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """A photo as the network wants it; pixels (h, w, 3) uint8 RGB, original_size of the file."""

    image_id: str
    content_hash: str
    pixels: NDArray[np.uint8]
    original_size: tuple[int, int]


_Outcome = _Prepared | ImageRegions | Quarantined


def slices_of(sources: Sequence[ImageSource], rows_per_shard: int) -> list[Slice]:
    """Cut a list of photos; all processes that cut the same list cut it alike.

    Args:
        sources: The photos; of several with one id the first counts.
        rows_per_shard: Photos in a slice; the last may have fewer.
    """
    known: set[str] = set()
    slices = []
    for number, start in enumerate(range(0, len(sources), rows_per_shard)):
        photos: list[ImageSource] = []
        repeated: list[Quarantined] = []
        stretch = sources[start : start + rows_per_shard]
        for source in stretch:
            if source.image_id in known:
                repeated.append(_repeated(source))
            else:
                photos.append(source)
            known.add(source.image_id)
        key = slice_key(number, (source.image_id for source in stretch))
        slices.append(Slice(key=key, photos=tuple(photos), repeated=tuple(repeated)))
    return slices


def settings_of(
    detector: LoadedDetector,
    rules: RegionRules | None = None,
    dtype: Literal["float16", "float32"] = "float16",
) -> RegionSettings:
    """What the shards of a detector say of themselves.

    Args:
        detector: As loaded.
        rules: Which regions are kept; None takes the model's own.
        dtype: In which features are kept.
    """
    kept = rules or detector.model.config.regions
    return RegionSettings(
        detector=detector.fingerprint,
        feature_width=detector.model.feature_width,
        dtype=dtype,
        rules=describe_rules(kept),
    )


def extractor_of(
    detector: LoadedDetector,
    settings: RegionSettings,
    *,
    rules: RegionRules | None = None,
    workers: int = 1,
    batch_size: int = 1,
    compat: Compat | None = None,
    earlier: KnownRegions | None = None,
    device: str = "cpu",
) -> Extractor:
    """A detector made ready for many photos.

    Args:
        detector: As loaded; it stays as it is.
        settings: From `settings_of`, with the same rules.
        rules: Which regions are kept; None takes the model's own.
        workers: Threads that read and resize photos; on a CPU they compute, too.
        batch_size: Most photos of one size that are computed together; on a CPU, at once.
        compat: Quirks of the original; None for none.
        earlier: Photos of these bytes are not seen again.
        device: Where the network computes.
    """
    is_cpu = device == "cpu"
    model = fold_norms(detector.model).to(memory_format=torch.channels_last).to(device)
    return Extractor(
        model=model,
        label_map=detector.label_map,
        settings=settings,
        rules=rules or detector.model.config.regions,
        workers=workers,
        batch_size=1 if is_cpu else batch_size,
        seers=min(workers, batch_size) if is_cpu else 0,
        compat=compat,
        earlier=earlier,
    )


def extract_shard(
    stretch: Slice,
    place: Place,
    extractor: Extractor,
    on_photos: Callable[[int], None] = lambda number: None,
) -> ShardReport:
    """See the photos of a slice and write its shard, unless it is there, whole and the same.

    Photos that cannot be read and repeated ids are set aside; they stand in the report.

    Args:
        stretch: The photos.
        place: Where shards go.
        extractor: The detector and what belongs to it.
        on_photos: Called with the number of further photos that are through.

    Raises:
        StorageError: A record cannot be stored.
        OSError: The disk is full, and the like; whole shards stay.
    """
    known = extractor.earlier.hashes if extractor.earlier is not None else ()
    there = read_slice(place, stretch.key, extractor.settings, known)
    if there is not None:
        on_photos(len(stretch))
        return there
    found: dict[str, ImageRegions] = {}
    reused: set[str] = set()
    quarantined = list(stretch.repeated)
    on_photos(len(stretch.repeated))

    def to_be_seen(results: Iterator[_Outcome]) -> Iterator[_Prepared]:
        for result in results:
            if isinstance(result, _Prepared):
                yield result
                continue
            if isinstance(result, Quarantined):
                quarantined.append(result)
            else:
                found[result.image_id] = result
                reused.add(result.image_id)
            on_photos(1)

    with _reading(stretch.photos, extractor) as results, _seeing(extractor) as see_batches:
        photos = to_be_seen(results)
        while window := list(islice(photos, extractor.window)):
            for regions in see_batches(_batches(window, extractor.batch_size)):
                found[regions.image_id] = as_stored(regions, extractor.settings)
                on_photos(1)
    order = [photo.image_id for photo in stretch.photos]
    records = [found[image_id] for image_id in order if image_id in found]
    return write_slice(
        place, stretch.key, extractor.settings, records, quarantined, num_reused=len(reused)
    )


def _batches(window: Sequence[_Prepared], batch_size: int) -> list[list[_Prepared]]:
    """Photos of one network size together."""
    by_size: dict[tuple[int, ...], list[_Prepared]] = {}
    for photo in window:
        by_size.setdefault(photo.pixels.shape, []).append(photo)
    return [
        members[start : start + batch_size]
        for members in by_size.values()
        for start in range(0, len(members), batch_size)
    ]


@contextmanager
def _seeing(
    extractor: Extractor,
) -> Iterator[Callable[[list[list[_Prepared]]], Iterator[ImageRegions]]]:
    """What gives the regions of some batches, whose photos come in any order."""

    def see_batch(batch: list[_Prepared]) -> list[ImageRegions]:
        return _see_batch(batch, extractor)

    if extractor.seers == 0:
        yield lambda batches: chain.from_iterable(map(see_batch, batches))
        return
    # another number of threads inside a convolution would round otherwise
    with ThreadPoolExecutor(
        extractor.seers, "see", initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        yield lambda batches: chain.from_iterable(pool.map(see_batch, batches))


def _see_batch(photos: Sequence[_Prepared], extractor: Extractor) -> list[ImageRegions]:
    """Regions of some photos of one network size."""
    batch = to_batch(
        [photo.pixels for photo in photos],
        [photo.original_size for photo in photos],
        extractor.model.config,
    )
    detections = see(extractor.model, batch, rules=extractor.rules, compat=extractor.compat)
    return [
        regions_of(
            seen,
            image_id=photo.image_id,
            content_hash=photo.content_hash,
            size=size,
            original_size=photo.original_size,
            label_map=extractor.label_map,
        )
        for photo, seen, size in zip(photos, detections, batch.sizes, strict=True)
    ]


@contextmanager
def _reading(sources: Sequence[ImageSource], extractor: Extractor) -> Iterator[Iterator[_Outcome]]:
    """Photos in order, read by threads that run at most a window (and one each) in front."""
    with ThreadPoolExecutor(extractor.workers, thread_name_prefix="decode") as pool:
        pending: deque[Future[_Outcome]] = deque()

        def results() -> Iterator[_Outcome]:
            for source in sources:
                pending.append(pool.submit(_read, source, extractor))
                if len(pending) > extractor.window + extractor.workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

        try:
            yield results()
        finally:
            for future in pending:
                future.cancel()


def _read(source: ImageSource, extractor: Extractor) -> _Outcome:
    """Read and resize one photo, or take what is known of it, or say why neither."""
    try:
        content = read_photo(source)
        if extractor.earlier is not None:
            known = extractor.earlier.find(source.image_id, sha256(content).hexdigest())
            if known is not None:
                return known
        image = decode(source, content=content)
    except UnreadableImageError as error:
        return Quarantined(image_id=source.image_id, reason=error.reason, detail=error.detail)
    return _Prepared(
        image_id=image.image_id,
        content_hash=image.content_hash,
        pixels=resize(image.pixels, extractor.model.config),
        original_size=(int(image.pixels.shape[0]), int(image.pixels.shape[1])),
    )


def _repeated(source: ImageSource) -> Quarantined:
    """A second photo under an id that was there already."""
    return Quarantined(
        image_id=source.image_id,
        reason="duplicate-id",
        detail=f"{source.place}: image id {source.image_id!r} came before; rename one of the files",
    )
