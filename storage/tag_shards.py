"""Translated tags in Arrow files: one image a row, row for row with its regions."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage.errors import DamagedFileError, RecordError
from storage.keys import KeyTable
from storage.manifest import MANIFEST_NAME, Manifest, read_manifest
from storage.mapped import MappedTable, write_batches
from storage.places import Place
from storage.record_columns import batches_of, builder_of
from storage.records import ImageTags
from storage.selections import Selection
from storage.shards import finish

KIND = "tags"


class StoredTags(Mapping[str, ImageTags]):
    """Tags by image id, each record made when it is asked for; in the order they were written."""

    def __init__(self, place: str | Path, *, read_all: bool = True) -> None:
        """Open a complete folder.

        Args:
            place: a folder, or a URL of fsspec.
            read_all: compare checksums and look through all values; False compares sizes alone.

        Raises:
            MissingFileError: The folder is incomplete.
            DamagedFileError: A shard is missing, cut or changed (it is named), or an image is
                twice.
        """
        self._place_name = place
        where = Place(place)
        mapped = MappedTable(place, read_manifest(where, KIND).shards, KIND, read_all=read_all)
        self._records: Selection[ImageTags] = Selection(mapped, builder_of(KIND))
        try:
            self._ids = KeyTable(mapped.table.column("image_id"))
        except RecordError as error:
            raise DamagedFileError(f"{where.name}: tags of image {error}") from error

    @property
    def image_ids(self) -> "pa.ChunkedArray":
        """Ids of all images, where they lie."""
        return self._ids.column

    def __getitem__(self, image_id: str) -> ImageTags:
        """Tags of one image.

        Raises:
            KeyError: No such image.
        """
        number = self._ids.number(image_id)
        if number is None:
            raise KeyError(image_id)
        return self._records[number]

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._ids

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self._place_name,)


def write_tags(place: str | Path, records: Iterable[ImageTags]) -> Manifest:
    """Write all tags, the manifest last; what the folder held before is replaced.

    Raises:
        OSError: Disk full, no permission, ...
    """
    where = Place(place)
    where.remove(MANIFEST_NAME)
    return finish(where, KIND, {}, write_batches(where, KIND, batches_of(KIND, records)))


def read_tags(place: str | Path, *, read_all: bool = True) -> StoredTags:
    """All tags by image id. Raises as `StoredTags`."""
    return StoredTags(place, read_all=read_all)


def _reopened(place: str | Path) -> StoredTags:
    return StoredTags(place, read_all=False)
