"""A detector made ready to turn slices of a list of photos into shards."""

from collections.abc import Container
from dataclasses import dataclass
from typing import Literal, Protocol

from detector.compat import Compat
from detector.config import RegionRules, describe_rules
from detector.engine import Engine, Precision
from detector.engines import prepare
from detector.errors import DetectorConfigError
from detector.loaded import LoadedDetector
from detector.resnext import ResNetC4
from storage.published.label_maps import LabelMap
from storage.records import WIDTH_FIRST, ImageRegions
from storage.region_slices import RegionSettings

_BATCHES_PER_WINDOW = 16  # most photos find company of their size; 200 MB at full size
_COMPILER = "inductor"  # torch's own
_DEVICE_SEERS = 2  # one prepares and takes apart batches while the device works for the other


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
class Extractor:
    """Everything that a slice needs to become a shard, but the slice.

    engine:     what computes
    settings:   of the shards
    rules:      which regions are kept
    workers:    threads that read and resize photos; results do not depend on them
    batch_size: most photos of one size that are computed together; another one changes results
                by rounding only
    seers:      batches that are computed at once, each by one thread
    pad_batches: photos are padded to whole cells, so that more of them are of one size
    compat:     quirks of the original; None for those of the rules
    earlier:    photos of these bytes are not seen again
    """

    engine: Engine
    label_map: LabelMap
    settings: RegionSettings
    rules: RegionRules
    workers: int = 1
    batch_size: int = 1
    seers: int = 1
    pad_batches: bool = False
    compat: Compat | None = None
    earlier: KnownRegions | None = None

    @property
    def window(self) -> int:
        """Photos among which company of the same size is looked for."""
        return 1 if self.batch_size == 1 else _BATCHES_PER_WINDOW * self.batch_size


def settings_of(
    detector: LoadedDetector,
    engine: Engine,
    rules: RegionRules | None = None,
    dtype: Literal["float16", "float32"] = "float16",
    geometry: str = WIDTH_FIRST,
    *,
    pad_batches: bool = False,
) -> RegionSettings:
    """What the shards of a detector say of themselves.

    Args:
        detector: As loaded.
        engine: What computes.
        rules: Which regions are kept; None takes the model's own.
        dtype: In which features are kept.
        geometry: In which order the box numbers of a region are to end.
        pad_batches: Photos are padded to whole cells.
    """
    return RegionSettings(
        detector=detector.fingerprint,
        feature_width=detector.model.feature_width,
        geometry=geometry,
        dtype=dtype,
        rules=describe_rules(rules or detector.model.config.regions),
        engine=engine.describe() + ("-padded" if pad_batches else ""),
    )


def extractor_of(
    detector: LoadedDetector,
    *,
    rules: RegionRules | None = None,
    dtype: Literal["float16", "float32"] = "float16",
    geometry: str = WIDTH_FIRST,
    precision: Precision = "exact",
    workers: int = 1,
    batch_size: int = 1,
    pad_batches: bool = False,
    compat: Compat | None = None,
    device: str = "cpu",
) -> Extractor:
    """A detector made ready for many photos.

    Args:
        detector: As loaded; it stays as it is.
        rules: Which regions are kept; None takes the model's own.
        dtype: In which features are kept.
        geometry: In which order the box numbers of a region are to end.
        precision: What computes them (`detector.engines`).
        workers: Threads that read and resize photos; on a CPU as many compute.
        batch_size: Most photos of one size that are computed together; on a CPU, at once.
        pad_batches: With "fast", pad photos to whole cells, so that more of them share a batch
            (docs/fast.md tells what it changes). Worth nothing on a CPU.
        compat: Quirks of the original; None for those of the rules.
        device: Where the network computes; elsewhere than on a CPU it is compiled for that.

    Raises:
        DetectorConfigError: Padding where regions are to be exact, or of another trunk's photos.
    """
    if pad_batches and precision == "exact":
        raise DetectorConfigError(
            "`pad_batches` changes regions near borders; it goes with `precision: fast`"
        )
    if pad_batches and not isinstance(detector.model.trunk, ResNetC4):
        raise DetectorConfigError(
            "`pad_batches` needs the trunk of a ResNet: the grid of this one moves with the size "
            "of a photo, and most of its regions with it"
        )
    is_cpu = device == "cpu"
    engine = prepare(
        detector.model,
        precision,
        device=device,
        ranges=detector.ranges,
        compile_with=None if is_cpu else _COMPILER,
    )
    return Extractor(
        engine=engine,
        label_map=detector.label_map,
        settings=settings_of(detector, engine, rules, dtype, geometry, pad_batches=pad_batches),
        rules=rules or detector.model.config.regions,
        workers=workers,
        batch_size=1 if is_cpu else batch_size,
        seers=min(workers, batch_size) if is_cpu else _DEVICE_SEERS,
        pad_batches=pad_batches,
        compat=compat,
    )
