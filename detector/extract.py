"""Many photos to a region shard: decoding in threads while the network computes.

Photos are taken in windows that never straddle a shard, and inside a window photos of one network
size share a batch. So a run that was interrupted and goes on after its last whole shard forms the
same batches and writes the same bytes.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from detector.compat import Compat
from detector.config import DetectorConfig, RegionRules
from detector.detect import regions_of
from detector.folding import fold_norms
from detector.model import AttributeRCNN
from detector.preprocess import resize, to_batch
from detector.see import see
from storage.errors import UnreadableImageError
from storage.images import decode
from storage.published.label_maps import LabelMap
from storage.records import ImageRegions, ImageSource, Quarantined

_BATCHES_PER_WINDOW = 4  # enough to find company for odd sizes, few enough to hold in memory


class RegionSink(Protocol):
    """Where regions go: `storage.region_shards.RegionWriter`."""

    @property
    def rows_per_shard(self) -> int:
        """Photos in a whole shard."""
        ...

    def finished_ids(self) -> Collection[str]:
        """Photos in whole shards of an earlier, interrupted run."""
        ...

    def add(self, regions: ImageRegions) -> None:
        """Take the next photo's regions."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """What became of the photos: num_in = num_written + num_reused + len(quarantined).

    num_written: seen and written now
    num_reused:  in whole shards already
    num_regions: regions written now
    """

    num_in: int
    num_written: int
    num_reused: int
    num_regions: int
    quarantined: tuple[Quarantined, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """A photo as the network wants it; pixels (h, w, 3) uint8 RGB, original_size of the file."""

    image_id: str
    content_hash: str
    pixels: NDArray[np.uint8]
    original_size: tuple[int, int]


def extract(
    model: AttributeRCNN,
    sources: Iterable[ImageSource],
    label_map: LabelMap,
    writer: RegionSink,
    *,
    workers: int = 1,
    batch_size: int = 1,
    rules: RegionRules | None = None,
    compat: Compat | None = None,
    on_image: Callable[[str], None] | None = None,
) -> Extraction:
    """See every photo once and write its regions, in the order of the photos.

    Unreadable photos and repeated ids are set aside, not written. Results do not depend on
    `workers`; another `batch_size` changes them by rounding only.

    Args:
        model: In evaluation mode. Its normalisation is folded here.
        sources: The photos; those the writer has finished are left out.
        label_map: Names of classes and attributes.
        writer: Open; closing it is the caller's.
        workers: Threads that read and resize photos.
        batch_size: Most photos of one size that are computed together.
        rules: Which regions are kept; None takes the model's own.
        compat: Quirks of the original; None for none.
        on_image: Called with each image id: written, set aside, or there already.

    Raises:
        StorageError: The writer refuses.
        OSError: The disk is full, and the like; whole shards stay.
    """
    folded = fold_norms(model).to(memory_format=torch.channels_last)
    finished = writer.finished_ids()
    counts = {"in": 0, "reused": 0, "written": 0, "regions": 0}
    quarantined: list[Quarantined] = []

    def report(image_id: str) -> None:
        if on_image is not None:
            on_image(image_id)

    def waiting() -> Iterator[ImageSource]:
        known: set[str] = set()
        for source in sources:
            counts["in"] += 1
            if source.image_id in known:
                quarantined.append(_repeated(source))
            elif source.image_id in finished:
                counts["reused"] += 1
                report(source.image_id)
            else:
                yield source
            known.add(source.image_id)

    def readable(results: Iterator[_Prepared | Quarantined]) -> Iterator[_Prepared]:
        for result in results:
            if isinstance(result, Quarantined):
                quarantined.append(result)
                report(result.image_id)
            else:
                yield result

    size = _window_size(writer.rows_per_shard, batch_size)
    with _prepared(waiting(), model.config, workers=workers, ahead=size) as results:
        photos = readable(results)
        while window := list(islice(photos, size)):
            for regions in _see_window(folded, window, label_map, batch_size, rules, compat):
                writer.add(regions)
                counts["written"] += 1
                counts["regions"] += len(regions.class_ids)
                report(regions.image_id)
    return Extraction(
        num_in=counts["in"],
        num_written=counts["written"],
        num_reused=counts["reused"],
        num_regions=counts["regions"],
        quarantined=tuple(quarantined),
    )


def _see_window(
    model: AttributeRCNN,
    window: Sequence[_Prepared],
    label_map: LabelMap,
    batch_size: int,
    rules: RegionRules | None,
    compat: Compat | None,
) -> list[ImageRegions]:
    """Regions of some photos in their order; photos of one size are computed together."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    for position, photo in enumerate(window):
        by_size.setdefault(photo.pixels.shape, []).append(position)
    found: dict[int, ImageRegions] = {}
    for members in by_size.values():
        for start in range(0, len(members), batch_size):
            chunk = members[start : start + batch_size]
            photos = [window[position] for position in chunk]
            batch = to_batch(
                [photo.pixels for photo in photos],
                [photo.original_size for photo in photos],
                model.config,
            )
            detections = see(model, batch, rules=rules, compat=compat)
            for position, photo, seen, size in zip(
                chunk, photos, detections, batch.sizes, strict=True
            ):
                found[position] = regions_of(
                    seen,
                    image_id=photo.image_id,
                    content_hash=photo.content_hash,
                    size=size,
                    original_size=photo.original_size,
                    label_map=label_map,
                )
    return [found[position] for position in range(len(window))]


@contextmanager
def _prepared(
    sources: Iterator[ImageSource], config: DetectorConfig, *, workers: int, ahead: int
) -> Iterator[Iterator[_Prepared | Quarantined]]:
    """Photos in order, read by threads that run at most `ahead` (and one each) in front."""
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        pending: deque[Future[_Prepared | Quarantined]] = deque()

        def results() -> Iterator[_Prepared | Quarantined]:
            for source in sources:
                pending.append(pool.submit(_prepare, source, config))
                if len(pending) > ahead + workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

        try:
            yield results()
        finally:
            for future in pending:
                future.cancel()


def _prepare(source: ImageSource, config: DetectorConfig) -> _Prepared | Quarantined:
    """Read and resize one photo, or say why not."""
    try:
        image = decode(source)
    except UnreadableImageError as error:
        return Quarantined(image_id=source.image_id, reason=error.reason, detail=error.detail)
    return _Prepared(
        image_id=image.image_id,
        content_hash=image.content_hash,
        pixels=resize(image.pixels, config),
        original_size=(int(image.pixels.shape[0]), int(image.pixels.shape[1])),
    )


def _repeated(source: ImageSource) -> Quarantined:
    """A second photo under an id that was there already."""
    return Quarantined(
        image_id=source.image_id,
        reason="duplicate-id",
        detail=f"{source.path}: image id {source.image_id!r} came before; rename one of the files",
    )


def _window_size(rows_per_shard: int, batch_size: int) -> int:
    """Largest divisor of a shard that is not above a few batches."""
    most = max(min(_BATCHES_PER_WINDOW * batch_size, rows_per_shard), 1)
    if batch_size == 1:
        return 1
    return next(size for size in range(most, 0, -1) if rows_per_shard % size == 0)
