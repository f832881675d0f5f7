"""Many photos to region shards, slice by slice: decoding in threads while the network computes.

A slice of the list of photos becomes one shard. On a CPU each photo is computed by itself, by one
thread, and as many at once as there are threads: its regions depend on nothing but the photo. On
other devices photos of one network size share a batch, and a batch never leaves its slice; photos
that may be padded are so to their own whole cells, whatever they share a batch with. So whoever
makes a shard, now or after an interruption, writes the same bytes.

Nobody waits for a slice to end: while its last photos are computed the next one's are read, and
its shard is written while the next one's are computed.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from hashlib import sha256
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from detector.detect import regions_of
from detector.errors import NotFiniteError
from detector.extractor import Extractor
from detector.preprocess import ModelImages, resize, to_batch, whole_cells
from detector.see import see
from detector.slices import Slice
from storage.errors import UnreadableImageError
from storage.images import decode, read_photo
from storage.places import Place
from storage.records import ImageRegions, ImageSource, Quarantined
from storage.region_slices import (
    ShardReport,
    as_stored,
    read_slice,
    write_slice,
)

_BATCHES_WAITING = 2  # for each thread that computes, so that none is ever without work
_SHARDS_WAITING = 1  # to be written
_NOT_FINITE = "not-finite"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """A photo as the network wants it; pixels (h, w, 3) uint8 RGB, original_size of the file."""

    image_id: str
    content_hash: str
    pixels: NDArray[np.uint8]
    original_size: tuple[int, int]


_Settled = ImageRegions | Quarantined
_Outcome = _Prepared | _Settled


def extract_shard(
    stretch: Slice,
    place: Place,
    extractor: Extractor,
    on_photos: Callable[[int], None] = lambda number: None,
) -> ShardReport:
    """One shard. Arguments and errors as `extract_shards`."""
    (report,) = extract_shards([stretch], place, extractor, on_photos)
    return report


def extract_shards(
    stretches: Iterable[Slice],
    place: Place,
    extractor: Extractor,
    on_photos: Callable[[int], None] = lambda number: None,
) -> Iterator[ShardReport]:
    """See the photos of slices and write their shards, unless these are there, whole and the same.

    Photos that cannot be read, photos whose numbers run over and repeated ids are set aside; they
    stand in the reports.

    Args:
        stretches: The photos; the next slice is asked for while the one before is computed.
        place: Where shards go.
        extractor: The detector and what belongs to it.
        on_photos: Called with the number of further photos that are through.

    Yields:
        A report for each shard, once it is written.

    Raises:
        StorageError: A record cannot be stored, or a store does not answer.
        NotFiniteError: The numbers of all the first photos run over.
        OSError: The disk is full, and the like; whole shards stay.
    """
    with _Workshop(place, extractor, on_photos) as workshop:
        for stretch in stretches:
            yield from workshop.taken(stretch)
        yield from workshop.rest()


@dataclass(slots=True)
class _Growing:
    """A shard of which some photos are through."""

    stretch: Slice
    settled: dict[str, _Settled] = field(default_factory=dict)
    num_reused: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether every photo is accounted for."""
        return len(self.settled) + len(self.stretch.repeated) == len(self.stretch)

    @property
    def records(self) -> list[ImageRegions]:
        """Of photos that were seen, in the order of the slice."""
        return [each for each in self._in_order() if isinstance(each, ImageRegions)]

    @property
    def quarantined(self) -> list[Quarantined]:
        """Repeated ids, then photos that were set aside, in the order of the slice."""
        aside = [each for each in self._in_order() if isinstance(each, Quarantined)]
        return [*self.stretch.repeated, *aside]

    def _in_order(self) -> list[_Settled]:
        return [self.settled[photo.image_id] for photo in self.stretch.photos]


class _Workshop:
    """Threads that read, that compute, and one that writes; this one hands on their work."""

    def __init__(
        self, place: Place, extractor: Extractor, on_photos: Callable[[int], None]
    ) -> None:
        self._place = place
        self._extractor = extractor
        self._on_photos = on_photos
        self._readers = ThreadPoolExecutor(extractor.workers, "decode")
        # another number of threads inside a convolution would round otherwise
        self._seers = ThreadPoolExecutor(
            extractor.seers, "see", initializer=torch.set_num_threads, initargs=(1,)
        )
        self._writer = ThreadPoolExecutor(1, "write")
        self._seeing: deque[tuple[_Growing, Future[list[_Settled]]]] = deque()
        self._writing: deque[Future[ShardReport]] = deque()
        self._has_seen = False  # any photo

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of what has not begun; what has is waited for."""
        for pool in (self._readers, self._seers, self._writer):
            pool.shutdown(wait=True, cancel_futures=True)

    def taken(self, stretch: Slice) -> Iterator[ShardReport]:
        """Put a slice to work; reports of shards that are done by now."""
        known = self._extractor.earlier.hashes if self._extractor.earlier is not None else ()
        there = read_slice(self._place, stretch.key, self._extractor.settings, known)
        if there is not None:
            self._has_seen |= there.entry.rows > 0
            self._on_photos(len(stretch))
            yield there
            return
        shard = _Growing(stretch=stretch)
        self._through(shard, len(stretch.repeated))
        window: list[_Prepared] = []
        for outcome in self._read_ahead(stretch.photos):
            if isinstance(outcome, _Prepared):
                window.append(outcome)
            else:
                shard.num_reused += isinstance(outcome, ImageRegions)
                self._settle(shard, outcome)
            if len(window) == self._extractor.window:
                self._see(shard, window)
                window = []
            yield from self._written(_SHARDS_WAITING)
        self._see(shard, window)

    def rest(self) -> Iterator[ShardReport]:
        """Reports of all shards that are not done yet."""
        while self._seeing:
            self._settle_oldest()
        yield from self._written(0)

    def _read_ahead(self, sources: Sequence[ImageSource]) -> Iterator[_Outcome]:
        """Photos in order, read by threads that run at most a window (and one each) in front."""
        pending: deque[Future[_Outcome]] = deque()
        for source in sources:
            pending.append(self._readers.submit(_read, source, self._extractor))
            if len(pending) > self._extractor.window + self._extractor.workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    def _see(self, shard: _Growing, window: Sequence[_Prepared]) -> None:
        for batch in _batches(window, self._extractor):
            self._seeing.append((shard, self._seers.submit(_see_batch, batch, self._extractor)))
            while len(self._seeing) > (1 + _BATCHES_WAITING) * self._extractor.seers:
                self._settle_oldest()

    def _settle_oldest(self) -> None:
        """Wait for the batch that was begun first."""
        shard, seeing = self._seeing.popleft()
        for outcome in seeing.result():
            self._settle(shard, outcome)

    def _settle(self, shard: _Growing, outcome: _Settled) -> None:
        shard.settled[outcome.image_id] = outcome
        self._through(shard, 1)

    def _through(self, shard: _Growing, num: int) -> None:
        """Tell of photos that are through; a shard that is whole goes to be written."""
        if num:
            self._on_photos(num)
        if shard.is_whole:
            self._check_seen(shard)
            self._writing.append(self._writer.submit(self._write, shard))

    def _check_seen(self, shard: _Growing) -> None:
        """One photo alone may be at fault itself; many, and none seen before, are not.

        Raises:
            NotFiniteError: No photo was seen yet, because of the network's numbers.
        """
        self._has_seen |= bool(shard.records)
        failed = [each for each in shard.quarantined if each.reason == _NOT_FINITE]
        if len(failed) > 1 and not self._has_seen:
            raise NotFiniteError(f"none of {len(failed)} photos can be seen: {failed[0].detail}")

    def _write(self, shard: _Growing) -> ShardReport:
        return write_slice(
            self._place,
            shard.stretch.key,
            self._extractor.settings,
            shard.records,
            shard.quarantined,
            num_reused=shard.num_reused,
        )

    def _written(self, num_waiting: int) -> Iterator[ShardReport]:
        """Reports as they come, until no more shards wait than so many."""
        while self._writing and (len(self._writing) > num_waiting or self._writing[0].done()):
            yield self._writing.popleft().result()


def _batches(window: Sequence[_Prepared], extractor: Extractor) -> list[list[_Prepared]]:
    """Photos of one network size together; those that are padded, of one padded size."""
    by_size: dict[tuple[int, int], list[_Prepared]] = {}
    for photo in window:
        height, width, _ = photo.pixels.shape
        size = (height, width)
        if extractor.pad_batches:
            size = whole_cells(height, width, extractor.engine.config)
        by_size.setdefault(size, []).append(photo)
    return [
        members[start : start + extractor.batch_size]
        for members in by_size.values()
        for start in range(0, len(members), extractor.batch_size)
    ]


def _see_batch(photos: Sequence[_Prepared], extractor: Extractor) -> list[_Settled]:
    """Regions of some photos that share a batch; where numbers run over, each is seen alone."""
    batch = _on_its_way(
        to_batch(
            [photo.pixels for photo in photos],
            [photo.original_size for photo in photos],
            extractor.engine.config,
            pads=extractor.pad_batches,
        ),
        extractor.engine.device,
    )
    try:
        detections = see(extractor.engine, batch, rules=extractor.rules, compat=extractor.compat)
    except NotFiniteError as error:
        if len(photos) > 1:
            return [seen for photo in photos for seen in _see_batch([photo], extractor)]
        image_id = photos[0].image_id
        detail = f"image {image_id!r}: {error}"
        return [Quarantined(image_id=image_id, reason=_NOT_FINITE, detail=detail)]
    return [
        as_stored(
            regions_of(
                seen,
                image_id=photo.image_id,
                content_hash=photo.content_hash,
                size=size,
                original_size=photo.original_size,
                label_map=extractor.label_map,
            ),
            extractor.settings,
        )
        for photo, seen, size in zip(photos, detections, batch.sizes, strict=True)
    ]


def _on_its_way(batch: ModelImages, device: torch.device) -> ModelImages:
    """The batch, already being copied where there is a device beside the processor."""
    if device.type != "cuda":
        return batch
    pixels = batch.pixels.pin_memory().to(device, non_blocking=True)
    return replace(batch, pixels=pixels)


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
        pixels=resize(image.pixels, extractor.engine.config),
        original_size=(int(image.pixels.shape[0]), int(image.pixels.shape[1])),
    )
