"""Photos to shards: how much slower than the network alone, and memory however many there are.

Each path runs in a process of its own. Network alone: the same engine and threads, photos already
decoded and resized. Half of its photos are seen before the extraction, half after, so that both
meet the same moods of the machine. `share` is of wall time, `cpu_share` of processor time; a small
network shows what reading, decoding and writing cost, X152-C4 what that is at full size. All of it
takes about ten minutes on two quiet cores.
"""

import io
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmarks.figure import Figure, peak_bytes
from benchmarks.reference.sane_weights import sane_weights
from detector.config import DetectorConfig, RegionRules, preset
from detector.extract import extract_shards
from detector.extractor import Extractor, extractor_of
from detector.loaded import LoadedDetector
from detector.model import AttributeRCNN
from detector.preprocess import resize, to_batch
from detector.published.checkpoint_names import from_published
from detector.see import see
from detector.slices import Slices
from detector.weights import model_of
from flows.photos import LIST_NAME, PhotoList, read_photos
from flows.stages import list_images
from storage.images import decode
from storage.images import list_images as photos_in_folder
from storage.places import Place
from storage.published.label_maps import LabelMap, label_map_of
from storage.records import ImageSource
from storage.region_slices import RegionSettings
from tests.locations import data_place

NUM_PHOTOS = {"lite0": 50, "x152c4": 12}
"""Network -> photos, all extracted and all seen alone."""
LOOKS = (20_000, 100_000)
"""Entries after which the memory of an extraction is looked at."""
NUM_LISTED = 1_000_000
_ROWS_PER_SHARD = 256
_ROWS_PER_GROUP = 10_000
_PAGE = resource.getpagesize()
_MEGABYTE = 1e6

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Photos a second [1/s], processor seconds a photo, largest resident sizes [bytes]."""

    alone: float
    whole: float
    alone_cpu: float
    whole_cpu: float
    alone_bytes: int
    whole_bytes: int
    num_photos: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Memory that a number of entries costs: early on and at the end [bytes]; how many were seen.

    num_early: seen at the first look
    """

    early: int
    late: int
    num_early: int
    num_out: int
    seconds: float

    @property
    def bytes_an_entry(self) -> float:
        """What each entry in between left behind."""
        return (self.late - self.early) / (self.num_out - self.num_early)


def measure() -> Iterator[Figure]:
    """The overlap of both networks, then the memory; each figure as soon as it is known."""
    for name, num_photos in NUM_PHOTOS.items():
        yield from overlap_figures(name, num_photos)
    yield from memory_figures()


def overlap_figures(name: str, num_photos: int) -> list[Figure]:
    """Photos a second of the whole extraction and of the network alone."""
    found = _in_child(overlap, name, num_photos)
    n = found.num_photos

    def figure(what: str, value: float, unit: str) -> Figure:
        return Figure(name=f"extraction.{name}.{what}", value=value, unit=unit, n=n, spread=0.0)

    return [
        figure("network_alone", found.alone, "photos/s"),
        figure("whole", found.whole, "photos/s"),
        figure("share", found.whole / found.alone, "x"),
        figure("cpu_share", found.alone_cpu / found.whole_cpu, "x"),
        figure("network_alone_peak", found.alone_bytes / _MEGABYTE, "MB"),
        figure("whole_peak", found.whole_bytes / _MEGABYTE, "MB"),
    ]


def memory_figures(
    looks: tuple[int, int] = LOOKS, num_listed: int = NUM_LISTED
) -> Iterator[Figure]:
    """What an entry leaves in memory, while photos are extracted and while they are listed."""
    with tempfile.TemporaryDirectory() as place:
        extracted = _in_child(extraction_memory, Path(place) / "extracted", *looks)
        yield from _kept_figures("extracting", "resident", extracted)
    with tempfile.TemporaryDirectory() as place:
        listed = _in_child(listing_memory, Path(place) / "listed", num_listed)
        yield from _kept_figures("listing", "peak", listed)


def _kept_figures(name: str, what: str, kept: Kept) -> list[Figure]:
    def figure(of: str, value: float, unit: str, n: int = kept.num_out) -> Figure:
        return Figure(name=f"extraction.{name}{of}", value=value, unit=unit, n=n, spread=0.0)

    return [
        figure(f"_{what}, early", kept.early / _MEGABYTE, "MB", kept.num_early),
        figure(f"_{what}", kept.late / _MEGABYTE, "MB"),
        figure("_bytes_an_entry", kept.bytes_an_entry, "B"),
        figure("_rate", kept.num_out / kept.seconds, "photos/s"),
    ]


def overlap(name: str, num_photos: int) -> Overlap:
    """One network, in this process."""
    with tempfile.TemporaryDirectory() as place:
        sources = _real_photos(num_photos) or _drawn_photos(Path(place) / "photos", num_photos)
        extractor = extractor_of(
            _detector(name, decode(sources[0]).pixels),
            workers=torch.get_num_threads(),
            batch_size=torch.get_num_threads(),
        )
        half = len(sources) // 2
        _alone(sources[:2], extractor)  # warm
        first = _alone(sources[:half], extractor)
        alone_bytes = peak_bytes()
        slices = Slices(sources, _ROWS_PER_SHARD)
        whole = _timed(lambda: list(extract_shards(slices, Place(Path(place) / "out"), extractor)))
        whole_bytes = peak_bytes()
        second = _alone(sources[half:], extractor)
    return Overlap(
        alone=len(sources) / (first[0] + second[0]),
        whole=len(sources) / whole[0],
        alone_cpu=(first[1] + second[1]) / len(sources),
        whole_cpu=whole[1] / len(sources),
        alone_bytes=alone_bytes,
        whole_bytes=whole_bytes,
        num_photos=len(sources),
    )


def extraction_memory(folder: Path, num_early: int, num_entries: int) -> Kept:
    """A list and a stub-size network; resident memory early and at the end."""
    photos = _tiny_photos(folder, num_entries)
    extractor = _stub_extractor()
    early = first = num_out = 0
    started = time.perf_counter()
    shards = extract_shards(Slices(photos, _ROWS_PER_SHARD), Place(folder / "out"), extractor)
    for report in shards:
        num_out += report.entry.rows
        (folder / "out" / report.entry.file).unlink()  # disks are not what is measured
        if num_out >= num_early and not early:
            early, first = _resident(), num_out
    return Kept(
        early=early,
        late=_resident(),
        num_early=first,
        num_out=num_out,
        seconds=time.perf_counter() - started,
    )


def listing_memory(folder: Path, num_entries: int) -> Kept:
    """The stage `list_images` over a table of so many rows, and cutting its list.

    The list itself, which is mapped into memory and can leave it at any time, does not count.
    """
    table = _table(folder, num_entries, lambda number: b"x")
    early, started = peak_bytes(), time.perf_counter()
    photos = _listed(folder, table)
    slices = Slices(photos, _ROWS_PER_SHARD)
    assert len(slices[len(slices) - 1].photos) > 0
    return Kept(
        early=early,
        late=peak_bytes() - (folder / "images" / LIST_NAME).stat().st_size,
        num_early=0,
        num_out=len(photos),
        seconds=time.perf_counter() - started,
    )


def _in_child(run: Callable[..., Found], *arguments: object) -> Found:
    """Run in a process of its own, so that its memory is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(run, *arguments).result()


def _alone(sources: Sequence[ImageSource], extractor: Extractor) -> tuple[float, float]:
    """Wall and processor seconds of the network on photos that are ready."""
    config = extractor.engine.config
    ready = [
        to_batch([resize(pixels, config)], [pixels.shape[:2]], config)
        for pixels in (decode(source).pixels for source in sources)
    ]
    with ThreadPoolExecutor(
        extractor.seers, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        return _timed(
            lambda: list(
                pool.map(lambda one: see(extractor.engine, one, rules=extractor.rules), ready)
            )
        )


def _timed(call: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def _detector(name: str, pixels: NDArray[np.uint8]) -> LoadedDetector:
    """A network of that size with random weights; a ResNet sees things like a trained one."""
    config = preset(name)
    torch.manual_seed(0)
    if config.trunk == "resnet_c4":
        small = np.ascontiguousarray(pixels[::2, ::2])
        shrunk = replace(config, min_size=small.shape[0], max_size=max(small.shape[:2]))
        published = sane_weights(shrunk, small, seed=0)
        cells = AttributeRCNN(config).cell_anchors
        model = model_of(config, from_published(published, cells), name)
    else:
        model = AttributeRCNN(config).eval()
    return LoadedDetector(model=model, label_map=_labels(config), fingerprint=name)


def _labels(config: DetectorConfig) -> LabelMap:
    return label_map_of(
        [f"class {number}" for number in range(1, config.num_classes)],
        [f"attribute {number}" for number in range(1, config.num_attributes)],
    )


def _real_photos(num: int) -> list[ImageSource]:
    """Some of COCO's, where they are here."""
    folder = data_place("real", "coco", "val2017")
    return photos_in_folder(folder, "coco")[0][:num] if folder.is_dir() else []


def _drawn_photos(folder: Path, num: int) -> list[ImageSource]:
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    for number in range(num):
        image = Image.fromarray(np.roll(noise, number, axis=1)).resize((640, 480))
        image.save(folder / f"{number:03d}.jpg")
    return photos_in_folder(folder, "")[0]


def _tiny_photos(folder: Path, num: int) -> PhotoList:
    """A table of small photos of different bytes, listed by the stage."""
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 30)).save(stream, "JPEG")
    content = stream.getvalue()
    return _listed(folder, _table(folder, num, lambda number: content + str(number).encode()))


def _table(folder: Path, num: int, content_of: Callable[[int], bytes]) -> Path:
    """A Parquet file of so many rows with ids and bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    schema = pa.schema({"image_id": pa.string(), "image": pa.binary()})
    with pq.ParquetWriter(folder / "x.parquet", schema) as writer:
        for first in range(0, num, _ROWS_PER_GROUP):
            numbers = range(first, min(num, first + _ROWS_PER_GROUP))
            ids = [f"{number:09d}" for number in numbers]
            contents = [content_of(number) for number in numbers]
            writer.write_table(pa.table([ids, contents], schema=schema))
    return folder / "x.parquet"


def _listed(folder: Path, place: Path) -> PhotoList:
    list_images.run(
        list_images.Config(collections={"0": list_images.Reading()}),
        list_images.Inputs(photos={"0": place}),
        list_images.Outputs(images=folder / "images"),
    )
    return read_photos(folder / "images", {"0": place})


class StubEngine:
    """As little as can be between pixels and regions, and every part of an engine."""

    def __init__(self) -> None:
        self.config = replace(preset("demo"), min_size=16, max_size=16, num_classes=4)
        self.device = torch.device("cpu")
        self.feature_width = 8
        self._anchors = torch.tensor([[0.0, 0.0, 7.0, 7.0], [4.0, 4.0, 15.0, 15.0]])
        torch.manual_seed(0)
        self._classes = torch.randn(8, 4)

    def describe(self) -> str:
        """No network."""
        return "stub"

    def trunk(self, pixels: Tensor) -> Tensor:
        """Mean colours."""
        return pixels.mean(dim=(2, 3), keepdim=True)

    def rpn_head(self, c4: Tensor) -> tuple[Tensor, Tensor]:
        """Two anchors, not moved."""
        return c4[:, :2], c4.new_zeros(len(c4), 8, 1, 1)

    def anchors(self, c4: Tensor) -> Tensor:
        """Two."""
        return self._anchors

    def region_features(self, c4: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """Sizes and colours."""
        return torch.cat([group.repeat(1, 2) / 16 for group in boxes])

    def class_logits(self, features: Tensor) -> Tensor:
        """Of four classes."""
        return features @ self._classes

    def box_deltas(self, features: Tensor) -> Tensor:
        """None."""
        return features.new_zeros(len(features), 16)

    def attribute_logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        """The features."""
        return features[:, :4]


def _stub_extractor() -> Extractor:
    engine = StubEngine()
    labels = replace(engine.config, num_attributes=4)
    rules = RegionRules(min_regions=1, max_regions=2, max_attributes_per_region=2)
    settings = RegionSettings(detector="stub", feature_width=8, engine=engine.describe())
    return Extractor(
        engine=engine,
        label_map=_labels(labels),
        settings=settings,
        rules=rules,
        workers=2,
        seers=2,
    )


def _resident() -> int:
    """Memory of this process now [bytes]."""
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[1]) * _PAGE
