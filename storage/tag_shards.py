"""Translated tags in shards: one image a row, row for row with its regions."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from storage.errors import DamagedFileError
from storage.manifest import MANIFEST_NAME, Manifest, read_manifest
from storage.places import Place
from storage.records import ImageTags
from storage.shards import finish, read_records, write_records

KIND = "tags"
_ROWS_PER_SHARD = 16_384
_ROWS_PER_GROUP = 1_024


def write_tags(place: str | Path, records: Iterable[ImageTags]) -> Manifest:
    """Write all tags, the manifest last; what the folder held before is replaced.

    Raises:
        OSError: Disk full, no permission, ...
    """
    where = Place(place)
    where.remove(MANIFEST_NAME)
    entries = write_records(
        where,
        KIND,
        {},
        map(asdict, records),
        rows_per_shard=_ROWS_PER_SHARD,
        rows_per_group=_ROWS_PER_GROUP,
    )
    return finish(where, KIND, {}, entries)


def read_tags(place: str | Path) -> dict[str, ImageTags]:
    """All tags by image id, in the order they were written.

    Raises:
        MissingFileError: The folder is incomplete.
        DamagedFileError: A shard is missing, cut or changed (it is named), or an image is twice.
    """
    where = Place(place)
    manifest = read_manifest(where, KIND)
    tags: dict[str, ImageTags] = {}
    for row in read_records(where, manifest.shards, KIND):
        if row["image_id"] in tags:
            raise DamagedFileError(f"{where.name}: tags of image {row['image_id']!r} twice")
        tags[row["image_id"]] = ImageTags(
            image_id=row["image_id"],
            tags=tuple(row["tags"]),
            attributes=tuple(map(tuple, row["attributes"])),
            language=row["language"],
        )
    return tags
