"""Stage: region shards that are there already -> the regions of this run; no photo is seen.

Shards are taken whole, as hard links where they lie on the same disk.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from flows.photos import write_photos
from flows.progress import SILENT, Progress
from flows.stored_regions import open_stored
from storage.artifacts import share_file
from storage.manifest import shard_name, verify_shard
from storage.places import Place
from storage.quarantine import QUARANTINE_NAME, write_quarantine
from storage.records import ImageSource
from storage.region_shards import KIND
from storage.shards import finish

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Nothing to set: the shards say everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """stored: number -> a folder as `flows.stored_regions` opens it."""

    stored: Mapping[str, Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """images: list of the photos that the regions are of; where these lie, nobody knows."""

    regions: Path
    images: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """num_quarantined: images that were set aside when the shards were made."""

    num_in: int
    num_out: int
    num_quarantined: int


def run(config: Config, inputs: Inputs, outputs: Outputs, progress: Progress = SILENT) -> Summary:
    """Check every byte of the shards and put them together under one manifest.

    Raises:
        MissingFileError: There are no shards, or they are incomplete.
        StorageError: Shards are damaged, are not alike, or hold one image twice.
    """
    found = open_stored([inputs.stored[number] for number in sorted(inputs.stored, key=int)])
    shards = [(each.folder, entry) for each in found for entry in each.manifest.shards]
    entries = []
    for number, (folder, entry) in enumerate(progress.track(shards, unit="shards")):
        verify_shard(Place(folder), entry)
        name = shard_name(KIND, number)
        share_file(folder / entry.file, outputs.regions / name)
        entries.append(replace(entry, file=name))
    settings = found[0].manifest.settings
    num_out = finish(Place(outputs.regions), KIND, settings, entries).num_rows
    ids = (image_id for each in found for image_id in each.ids)
    photos = (ImageSource(image_id=image_id, path=Path()) for image_id in ids)
    write_photos(outputs.images, {"0": photos}, {})
    aside = [entry for each in found for entry in each.quarantined()]
    write_quarantine(outputs.regions.parent / QUARANTINE_NAME, aside)
    return Summary(num_in=num_out + len(aside), num_out=num_out, num_quarantined=len(aside))
