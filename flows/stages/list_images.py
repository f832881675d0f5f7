"""Stage: folders of photos -> one list of photos with the ids that annotations join on."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.photos import write_photos
from flows.progress import SILENT, Progress
from storage.errors import MissingFileError
from storage.images import list_images
from storage.quarantine import QUARANTINE_NAME, write_quarantine
from storage.records import ImageSource, Quarantined

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """namespaces: one for each folder, by its number; "" for none."""

    namespaces: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    photos: Mapping[str, Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    images: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    num_in: int
    num_out: int
    num_quarantined: int


def run(config: Config, inputs: Inputs, outputs: Outputs, progress: Progress = SILENT) -> Summary:
    """List every photo; the same id twice keeps the first and quarantines the others."""
    found: dict[str, list[ImageSource]] = {}
    quarantined: list[Quarantined] = []
    seen: Counter[str] = Counter()
    for number, folder in progress.track(inputs.photos.items(), unit="folders"):
        sources, dropped = list_images(folder, config.namespaces[number])
        quarantined += dropped
        found[number] = []
        for source in sources:
            seen[source.image_id] += 1
            if seen[source.image_id] == 1:
                found[number].append(source)
            else:
                detail = f"{source.path}: another photo has the same id {source.image_id!r}"
                quarantined.append(
                    Quarantined(image_id=source.image_id, reason="duplicate-id", detail=detail)
                )
    num_out = sum(map(len, found.values()))
    if num_out == 0:
        folders = ", ".join(str(folder) for folder in inputs.photos.values())
        raise MissingFileError(
            f"no photo found in {folders}; check data.images and data.root"
            + (f" ({len(quarantined)} files could not be used)" if quarantined else "")
        )
    outputs.images.mkdir(parents=True, exist_ok=True)
    write_photos(outputs.images, found, inputs.photos)
    write_quarantine(outputs.images.parent / QUARANTINE_NAME, quarantined)
    return Summary(
        num_in=num_out + len(quarantined), num_out=num_out, num_quarantined=len(quarantined)
    )
