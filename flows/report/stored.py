"""The records of a run that the page shows, read from the folders of its steps."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.demo.truth import TrueImage, read_truth
from flows.photos import read_photos
from flows.report.album import Album
from flows.report.finished import FinishedStep
from storage.annotation_shards import read_annotations
from storage.records import Annotations, ImageRegions, ImageTags
from storage.region_shards import RegionReader
from storage.tag_shards import read_tags


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The records of a run; empty where their step did not run."""

    album: Album
    num_photos: int
    regions: Mapping[str, ImageRegions]
    num_regions: int
    tags: Mapping[str, ImageTags]
    annotations: Annotations
    truth: Mapping[str, TrueImage]


def read_stored(
    steps: Mapping[str, FinishedStep], photos: Mapping[str, Path], truth: Path | None
) -> Stored:
    """Read what is there.

    Raises:
        StorageError: A finished folder is damaged; names the file.
    """
    listed = _folder(steps, "list_images", "images")
    sources = read_photos(listed, photos) if listed is not None else []
    regions_at = _folder(steps, "detect", "regions")
    reader = RegionReader(regions_at, read_all=False) if regions_at is not None else None
    tags_at = _folder(steps, "translate_tags", "tags")
    annotations_at = _folder(steps, "collect_annotations", "annotations")
    return Stored(
        album=Album(sources),
        num_photos=len(sources) or (len(reader) if reader is not None else 0),
        regions=reader if reader is not None else {},
        num_regions=_num_regions(reader),
        tags=read_tags(tags_at) if tags_at is not None else {},
        annotations=read_annotations(annotations_at) if annotations_at else Annotations(),
        truth=read_truth(truth) if truth is not None else {},
    )


def _num_regions(reader: RegionReader | None) -> int:
    return sum(len(each.class_names) for each in reader.labels_in_order()) if reader else 0


def _folder(steps: Mapping[str, FinishedStep], step: str, name: str) -> Path | None:
    return steps[step].find(name) if step in steps else None
