"""Region shards as slices of a list of photos, so that any set of workers may make any of them.

Shard k holds photos k * R to (k + 1) * R - 1 of the list, less those that could not be used. These
stand in the shard's own metadata, together with a digest of the slice's ids: a shard tells by
itself whether it is the one that is wanted. Equal records give equal bytes, whoever writes them.
"""

import dataclasses
import json
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np

from storage.errors import DamagedFileError, MissingFileError, RecordError
from storage.manifest import MANIFEST_NAME, Manifest, ShardEntry, entry_of, shard_name
from storage.places import Place
from storage.records import HEIGHT_FIRST, INCLUDED, WIDTH_FIRST, ImageRegions, Quarantined
from storage.region_rows import to_row
from storage.region_shards import KIND, RegionShard
from storage.shards import ROWS_PER_GROUP, chunks, finish, write_shard

ROWS_PER_SHARD = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionSettings:
    """What all shards of a folder have in common.

    detector:      fingerprint of the detector that saw the regions
    feature_width: D
    geometry:      how the six box numbers of a region come to be (`storage.records`)
    dtype:         in which features are kept
    rules:         name and values of the rules by which regions were kept; "" where nobody asks
    engine:        what computed them, in a word ("exact", "fast:..."); "" where nobody asks
    """

    detector: str
    feature_width: int
    geometry: str = WIDTH_FIRST
    dtype: Literal["float16", "float32"] = "float16"
    rules: str = ""
    engine: str = ""

    def __post_init__(self) -> None:
        """Refuse what no reader knows."""
        if self.dtype not in ("float16", "float32") or self.geometry not in (
            WIDTH_FIRST,
            HEIGHT_FIRST,
            INCLUDED,
        ):
            raise RecordError(
                f"region shards: dtype {self.dtype!r} or geometry {self.geometry!r} unknown"
            )

    def as_stamps(self) -> dict[str, str]:
        """As they stand in each shard and in the manifest."""
        return {name: str(value) for name, value in dataclasses.asdict(self).items() if value != ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceKey:
    """Which stretch of which list of photos.

    number: of the shard
    digest: of the ids of all its photos, usable or not
    """

    number: int
    digest: str

    @property
    def file(self) -> str:
        """Name of the shard."""
        return shard_name(KIND, self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardReport:
    """A whole shard.

    num_regions: in all its images
    num_reused:  images whose record comes from an earlier extraction
    quarantined: photos of the slice that are not in it
    """

    number: int
    entry: ShardEntry
    num_regions: int
    num_reused: int
    quarantined: tuple[Quarantined, ...]

    def as_json(self) -> str:
        """One line, for the way from a worker to whoever finishes the folder."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(line: str) -> "ShardReport":
        """Back from `as_json`."""
        fields = json.loads(line)
        fields["entry"] = ShardEntry(**fields["entry"])
        fields["quarantined"] = tuple(Quarantined(**entry) for entry in fields["quarantined"])
        return ShardReport(**fields)


def slice_key(number: int, image_ids: Iterable[str]) -> SliceKey:
    """The key of a stretch of a list."""
    text = json.dumps(list(image_ids))
    return SliceKey(number=number, digest=sha256(text.encode("ascii")).hexdigest())


def as_stored(regions: ImageRegions, settings: RegionSettings) -> ImageRegions:
    """The record with features of the stored dtype.

    Raises:
        RecordError: The width is wrong, or a value is beyond float16.
    """
    width = regions.features.shape[1]
    if width != settings.feature_width:
        raise RecordError(
            f"image {regions.image_id!r}: features are {width} wide, the shards "
            f"{settings.feature_width}"
        )
    dtype = np.dtype(settings.dtype)
    if regions.features.dtype == dtype:
        return regions
    with np.errstate(over="ignore"):
        features = regions.features.astype(dtype)
    if not np.isfinite(features).all():  # the record's own were finite
        raise RecordError(
            f"image {regions.image_id!r}: a feature is beyond {dtype}; keep features as float32 "
            "(`detect.dtype`, `--dtype`)"
        )
    return dataclasses.replace(regions, features=features)


def write_slice(
    place: Place,
    key: SliceKey,
    settings: RegionSettings,
    records: Sequence[ImageRegions],
    quarantined: Sequence[Quarantined] = (),
    num_reused: int = 0,
) -> ShardReport:
    """Write one shard; it appears whole or not at all.

    Args:
        place: where to.
        key: which slice it is.
        settings: of the folder.
        records: in the order of the list, as `as_stored` gives them.
        quarantined: the slice's other photos.
        num_reused: for the report.

    Raises:
        RecordError: An image is there twice.
        OSError: Disk full, no permission, ...; names the file.
    """
    if len({regions.image_id for regions in records}) != len(records):
        raise RecordError(f"{place.describe(key.file)}: regions of an image added twice")
    num_regions = sum(len(regions.class_ids) for regions in records)
    own = {
        "slice": key.digest,
        "num_regions": str(num_regions),
        "quarantined": json.dumps([dataclasses.asdict(entry) for entry in quarantined]),
    }
    groups = ([to_row(row) for row in rows] for rows in chunks(records, ROWS_PER_GROUP))
    return ShardReport(
        number=key.number,
        entry=write_shard(place, key.file, KIND, settings.as_stamps(), groups, own),
        num_regions=num_regions,
        num_reused=num_reused,
        quarantined=tuple(quarantined),
    )


def read_slice(
    place: Place, key: SliceKey, settings: RegionSettings, known: Container[str] = ()
) -> ShardReport | None:
    """A shard that is there already, every byte of it checked; None where it must be made.

    It must be whole, of the same slice and of the same settings.

    Args:
        place: where it may lie.
        key: which slice is wanted.
        settings: of the folder.
        known: content hashes of the photos in an earlier extraction, for the report.
    """
    try:
        shard = RegionShard(place, key.file, check_pages=True)
        if shard.settings != settings.as_stamps() or shard.own.get("slice") != key.digest:
            return None
        hashes = [regions.content_hash for regions in shard.rows()]
        quarantined = tuple(Quarantined(**each) for each in json.loads(shard.own["quarantined"]))
        num_regions = int(shard.own["num_regions"])
    except (MissingFileError, DamagedFileError, KeyError, TypeError, ValueError):
        return None
    return ShardReport(
        number=key.number,
        entry=entry_of(place, key.file, len(hashes)),
        num_regions=num_regions,
        num_reused=sum(content_hash in known for content_hash in hashes),
        quarantined=quarantined,
    )


def bring_home(source: Place, target: Place, report: ShardReport) -> None:
    """Copy a shard from where a worker put it, unless it is there; its checksum must hold.

    Raises:
        DamagedFileError: What arrives is not what the worker wrote, twice.
        OSError: Disk full, no permission, ...
    """
    name = report.entry.file
    if name in target and target.sha256(name) == report.entry.sha256:
        return
    for _ in range(2):
        with target.writing(name) as path:
            source.download(name, path)
        if target.sha256(name) == report.entry.sha256:
            return
        target.remove(name)
    raise DamagedFileError(
        f"{source.describe(name)}: arrives with other bytes than the worker wrote (SHA-256); "
        "run the same command again to make it anew"
    )


def finish_slices(
    place: Place, settings: RegionSettings, reports: Iterable[ShardReport]
) -> Manifest:
    """Write the manifest, which completes the folder; shards of no slice are removed.

    Raises:
        OSError: It cannot be written; the folder stays incomplete.
    """
    entries = [report.entry for report in sorted(reports, key=lambda report: report.number)]
    return finish(place, KIND, settings.as_stamps(), entries)


def write_regions(
    place: str | Path,
    records: Iterable[ImageRegions],
    settings: RegionSettings,
    *,
    rows_per_shard: int = ROWS_PER_SHARD,
) -> Manifest:
    """Write regions that are at hand as a folder of shards; whole shards of the same ids stay.

    Args:
        place: a folder, or a URL of fsspec.
        records: in the order they are stored.
        settings: of the folder.
        rows_per_shard: images in a shard; the last may have fewer.

    Raises:
        RecordError: An image is there twice, the width is wrong, or a value is beyond float16.
        OSError: A shard cannot be written; earlier ones stay.
    """
    where = Place(place)
    where.remove(MANIFEST_NAME)
    seen: set[str] = set()
    reports = []
    for number, rows in enumerate(chunks(records, rows_per_shard)):
        stored = [as_stored(regions, settings) for regions in rows]
        ids = [regions.image_id for regions in stored]
        if repeated := seen.intersection(ids):
            raise RecordError(f"image {min(repeated)!r}: regions added twice")
        seen.update(ids)
        key = slice_key(number, ids)
        report = read_slice(where, key, settings)
        reports.append(report or write_slice(where, key, settings, stored))
    return finish_slices(where, settings, reports)
