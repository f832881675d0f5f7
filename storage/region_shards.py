"""Region features in shards: one image a row, read by id or in shuffled groups."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.errors import DamagedFileError, RecordError
from storage.keys import KeyTable
from storage.manifest import (
    MANIFEST_NAME,
    ShardEntry,
    read_manifest,
    verify_shard,
)
from storage.places import Place
from storage.records import ImageLabels, ImageRegions
from storage.region_rows import LIGHT_COLUMNS, MappedFeatures, RegionGroup
from storage.schemas import own_stamps
from storage.shards import open_shard, read_column, read_group

KIND = "regions"
_OPEN_SHARDS = 32
_KEPT_GROUPS = 16  # of each open shard


class RegionReader(Mapping[str, ImageRegions]):
    """Regions by image id; features come straight from the mapped file where it is local.

    detector:      fingerprint of the detector that saw them
    geometry:      order of the last two numbers of the region geometry
    feature_width: D
    """

    def __init__(self, place: str | Path, *, read_all: bool = True) -> None:
        """Open a complete folder and check its shards against the manifest.

        Args:
            place: a folder, or a URL of fsspec.
            read_all: compare checksums, which reads every byte; False compares sizes alone.

        Raises:
            MissingFileError: There is no manifest: the folder is incomplete.
            DamagedFileError: A shard is missing, cut or changed; it is named.
        """
        self._place_name = place
        self._place = Place(place)
        self.manifest = read_manifest(self._place, KIND)
        settings = self.manifest.settings
        try:
            self.detector = settings["detector"]
            self.geometry = settings["geometry"]
            self.feature_width = int(settings["feature_width"])
        except (KeyError, ValueError) as error:
            where = self._place.describe(MANIFEST_NAME)
            raise DamagedFileError(f"{where}: settings incomplete ({error})") from error
        self._lock = threading.Lock()
        self._shards: OrderedDict[int, RegionShard] = OrderedDict()
        self._groups: list[tuple[int, int]] = []
        self._sizes: list[int] = []  # images of each row group
        ids = []
        for number, entry in enumerate(self.manifest.shards):
            verify_shard(self._place, entry, read_all=read_all)
            ids.append(self._index(number, entry))
        self._starts = np.cumsum([0, *self._sizes])
        try:
            self._ids = KeyTable(pa.concat_arrays(ids) if ids else pa.array([], pa.string()))
        except RecordError as error:
            raise DamagedFileError(
                f"{self._place.name}: regions of image {error}; delete the folder and run the step "
                "again"
            ) from error

    def __getitem__(self, image_id: str) -> ImageRegions:
        """Regions of one image.

        Raises:
            KeyError: No such image.
            DamagedFileError: Its row cannot be read.
        """
        row, place = self._place_of(image_id)
        number, group = self._groups[place]
        return self._shard(number).row(group, row - int(self._starts[place]))

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._ids

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> Sequence[str]:
        """Ids of all images, in the order they were written."""
        return self._ids

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self._place_name,)

    def in_order(self) -> Iterator[ImageRegions]:
        """All images in the order they were written."""
        for number, group in self._groups:
            yield from self._shard(number).group_rows(group)

    def shuffled(self, seed: int, epoch: int) -> Iterator[ImageRegions]:
        """All images once: row groups in random order, then the rows inside each.

        The order depends on seed and epoch alone.
        """
        draw = np.random.default_rng([seed, epoch])
        for place in draw.permutation(len(self._groups)):
            number, group = self._groups[place]
            rows = draw.permutation(self._sizes[place])
            yield from self._shard(number).group_rows(group, rows.tolist())

    def hashes_in_order(self) -> Iterator[str]:
        """Content hashes of all photos in the order they were written."""
        for number, group in self._groups:
            yield from self._shard(number).texts(group, "content_hash")

    def group_of(self, image_id: str) -> int:
        """Number of the row group that holds an image, in the order of storage.

        Raises:
            KeyError: No such image.
        """
        return self._place_of(image_id)[1]

    def shard_of(self, image_id: str) -> ShardEntry:
        """The manifest's line of the shard that holds an image.

        Raises:
            KeyError: No such image.
        """
        number, _ = self._groups[self._place_of(image_id)[1]]
        return self.manifest.shards[number]

    def labels_in_order(self) -> Iterator[ImageLabels]:
        """Names of all images in the order they were written; no features are read."""
        for number, group in self._groups:
            columns = self._shard(number).columns(group)
            for row in range(len(columns.image_ids)):
                yield columns.labels(row)

    def _place_of(self, image_id: str) -> tuple[int, int]:
        """Number of an image among all, and of its row group.

        Raises:
            KeyError: No such image.
        """
        row = self._ids.number(image_id)
        if row is None:
            raise KeyError(image_id)
        return row, int(np.searchsorted(self._starts, row, "right")) - 1

    def _index(self, number: int, entry: ShardEntry) -> "pa.StringArray":
        """Note the row groups of a shard; gives back the ids of its images."""
        where = self._place.describe(entry.file)
        shard = self._shard(number)
        if shard.settings != dict(self.manifest.settings):
            raise DamagedFileError(
                f"{where}: settings differ from the manifest's ("
                f"{_difference(shard.settings, self.manifest.settings)})"
            )
        for group in range(shard.num_groups):
            self._groups.append((number, group))
            self._sizes.append(shard.num_rows(group))
        ids = shard.image_ids()
        if len(ids) != entry.rows:
            raise DamagedFileError(
                f"{where}: {len(ids)} images, the manifest says {entry.rows} rows; delete it and "
                "run the step again"
            )
        return ids

    def _shard(self, number: int) -> "RegionShard":
        with self._lock:
            if number in self._shards:
                self._shards.move_to_end(number)
                return self._shards[number]
            shard = RegionShard(self._place, self.manifest.shards[number].file)
            self._shards[number] = shard
            if len(self._shards) > _OPEN_SHARDS:
                self._shards.popitem(last=False)
            return shard


class RegionShard:
    """One open shard; keeps the light columns of the row groups used last.

    settings: what all shards of its folder have in common
    own:      what it says of itself alone (`storage.region_slices`)
    """

    def __init__(self, place: Place, name: str, *, check_pages: bool = False) -> None:
        """Open a shard; nothing but its footer is read.

        Args:
            place: where it lies.
            name: file name.
            check_pages: compare page checksums while reading.

        Raises:
            MissingFileError: There is no such file.
            DamagedFileError: It is cut, or of another kind or version.
        """
        self._where = place.describe(name)
        self._file, self.settings = open_shard(place, name, KIND, check_pages=check_pages)
        self.own = own_stamps(self._file.schema_arrow)
        try:
            self._dtype = np.dtype(self.settings["dtype"]).newbyteorder("<")
        except (KeyError, TypeError) as error:
            raise DamagedFileError(f"{self._where}: feature dtype unknown ({error})") from error
        self.num_groups: int = self._file.num_row_groups
        self._lock = threading.Lock()
        self._columns: OrderedDict[int, RegionGroup] = OrderedDict()
        self._starts: dict[int, list[int] | None] = {}
        local = place.folder is not None and not check_pages
        self._mapped = MappedFeatures(place.folder / name) if local and place.folder else None

    def num_rows(self, group: int) -> int:
        """Images of a row group."""
        return int(self._file.metadata.row_group(group).num_rows)

    def image_ids(self) -> "pa.StringArray":
        """Ids of all images in their order."""
        with self._lock:
            return read_column(self._file, "image_id", self._where)

    def texts(self, group: int, column: str) -> list[str]:
        """A column of text of a row group: `image_id` or `content_hash`."""
        texts: list[str] = self._read(group, [column]).column(0).to_pylist()
        return texts

    def rows(self) -> Iterator[ImageRegions]:
        """All images in their order."""
        for group in range(self.num_groups):
            yield from self.group_rows(group)

    def group_rows(self, group: int, rows: Iterable[int] | None = None) -> Iterator[ImageRegions]:
        """Images of a row group, in their order or in that of their numbers in it."""
        columns = self.columns(group)
        starts, mapped = self._starts_of(group, columns), self._mapped
        order = range(len(columns.image_ids)) if rows is None else rows
        if starts is None or mapped is None:
            decoded = self._decoded(group, columns)
            yield from (columns.regions(row, decoded[row]) for row in order)
            return
        for row in order:
            features = mapped.read(starts[row], columns.shapes[row], self._dtype)
            yield columns.regions(row, features)

    def row(self, group: int, row: int) -> ImageRegions:
        """One image of a row group."""
        columns = self.columns(group)
        starts = self._starts_of(group, columns)
        if starts is None or self._mapped is None:
            return columns.regions(row, self._decoded(group, columns)[row])
        features = self._mapped.read(starts[row], columns.shapes[row], self._dtype)
        return columns.regions(row, features)

    def columns(self, group: int) -> RegionGroup:
        """All but the features of a row group."""
        with self._lock:
            known = self._columns.get(group)
        if known is None:
            known = RegionGroup(self._read(group, LIGHT_COLUMNS), self._where)
            with self._lock:
                self._columns[group] = known
                if len(self._columns) > _KEPT_GROUPS:
                    self._columns.popitem(last=False)
        return known

    def _starts_of(self, group: int, columns: RegionGroup) -> list[int] | None:
        if self._mapped is None:
            return None
        if group not in self._starts:
            sizes = [num * wide * self._dtype.itemsize for num, wide in columns.shapes]
            self._starts[group] = self._mapped.starts(self._file, group, sizes)
        return self._starts[group]

    def _decoded(self, group: int, columns: RegionGroup) -> Sequence[NDArray[Any]]:
        """Features of a whole row group through Parquet."""
        values = self._read(group, ["features"]).column(0).to_pylist()
        try:
            return [
                np.frombuffer(value, self._dtype).reshape(shape).copy()
                for value, shape in zip(values, columns.shapes, strict=True)
            ]
        except ValueError as error:
            raise DamagedFileError(f"{self._where}: row group {group}: {error}") from error

    def _read(self, group: int, columns: list[str]) -> pa.Table:
        with self._lock:
            return read_group(self._file, group, self._where, columns)


def _reopened(place: str | Path) -> RegionReader:
    return RegionReader(place, read_all=False)


def _difference(found: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    keys = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
    return ", ".join(f"{key} {found.get(key)!r}, here {wanted.get(key)!r}" for key in keys)
