"""`ImageRegions` as a row of a shard, and back from a row group.

Letters: N regions, K attribute slots, D feature width.
"""

import mmap
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from storage.errors import DamagedFileError, RecordError
from storage.later_tuple import LaterTuple
from storage.records import ImageLabels, ImageRegions
from storage.schemas import REGIONS

LIGHT_COLUMNS = [name for name in REGIONS.names if name != "features"]
"""All columns but the features, which are nearly all of the bytes."""
_SINGLE = ("content_hash", "height", "width", "attribute_slots")
_LENGTH = struct.Struct("<i")  # Parquet writes it before each binary value


def to_row(regions: ImageRegions) -> dict[str, Any]:
    """Plain values by column; features as they are, little-endian."""
    features = np.ascontiguousarray(regions.features)
    little = features.dtype.newbyteorder("<")
    return {
        "image_id": regions.image_id,
        "content_hash": regions.content_hash,
        "height": int(regions.height),
        "width": int(regions.width),
        "boxes": regions.boxes.tolist(),
        "class_ids": regions.class_ids.tolist(),
        "class_names": list(regions.class_names),
        "confidences": regions.confidences.tolist(),
        "attribute_slots": int(regions.attribute_ids.shape[1]),
        "attribute_ids": regions.attribute_ids.ravel().tolist(),
        "attribute_scores": regions.attribute_scores.ravel().tolist(),
        "attribute_names": [list(names) for names in regions.attribute_names],
        "features_shape": list(features.shape),
        "features": features.astype(little, copy=False).tobytes(),
    }


class RegionGroup:
    """The light columns of one row group, taken apart once, put together row by row.

    image_ids: of its images
    shapes:    (N, D) of their features
    """

    def __init__(self, table: pa.Table, where: str) -> None:
        """Take the columns apart.

        Args:
            table: the light columns of a row group.
            where: the shard, for errors.
        """
        self._where = where
        columns = {name: table.column(name).combine_chunks() for name in table.column_names}
        self.image_ids: list[str] = columns["image_id"].to_pylist()
        shapes = columns["features_shape"].values.to_numpy().reshape(-1, 2)
        self.shapes: list[tuple[int, int]] = [(int(num), int(wide)) for num, wide in shapes]
        self._single = {name: columns[name].to_pylist() for name in _SINGLE}
        corners = columns["boxes"].values.values.to_numpy().reshape(-1, 4)
        self._lists = {
            "boxes": (columns["boxes"].offsets.tolist(), corners),
            **{
                name: (columns[name].offsets.tolist(), columns[name].values.to_numpy())
                for name in ("class_ids", "confidences", "attribute_ids", "attribute_scores")
            },
        }
        self._names = {name: columns[name] for name in ("class_names", "attribute_names")}
        self._num_names = {
            name: np.diff(self._names[name].offsets).tolist() for name in self._names
        }

    def regions(self, row: int, features: NDArray[np.floating]) -> ImageRegions:
        """One row as a record, with its features (N, D); its names are read when asked for.

        Raises:
            DamagedFileError: The row breaks the record's invariants; names shard and image.
        """
        image_id, single = self.image_ids[row], self._single
        try:
            class_names, attribute_names = self._named(row)
            grid = (len(class_names), single["attribute_slots"][row])
            return ImageRegions(
                image_id=image_id,
                content_hash=single["content_hash"][row],
                height=single["height"][row],
                width=single["width"][row],
                boxes=self._part("boxes", row),
                features=features,
                class_ids=self._part("class_ids", row),
                confidences=self._part("confidences", row),
                attribute_ids=self._part("attribute_ids", row).reshape(grid),
                attribute_scores=self._part("attribute_scores", row).reshape(grid),
                class_names=class_names,
                attribute_names=attribute_names,
            )
        except (RecordError, ValueError) as error:
            raise DamagedFileError(f"{self._where}: row of {image_id!r}: {error}") from error

    def labels(self, row: int) -> ImageLabels:
        """Names alone."""
        class_names, attribute_names = self._named(row)
        return ImageLabels(
            image_id=self.image_ids[row],
            class_names=tuple(class_names),
            attribute_names=tuple(attribute_names),
        )

    def _named(self, row: int) -> tuple[LaterTuple[str], LaterTuple[tuple[str, ...]]]:
        """Class names and attribute names of a row."""
        classes, attributes = self._names["class_names"], self._names["attribute_names"]
        num = self._num_names
        return (
            LaterTuple(num["class_names"][row], lambda: classes[row].as_py()),
            LaterTuple(num["attribute_names"][row], lambda: map(tuple, attributes[row].as_py())),
        )

    def _part(self, name: str, row: int) -> NDArray[Any]:
        offsets, values = self._lists[name]
        # a view of Arrow's memory could not be written to
        part: NDArray[Any] = values[offsets[row] : offsets[row + 1]].copy()
        return part


class MappedFeatures:
    """Features straight from a mapped shard, without decoding Parquet.

    A plain, uncompressed column chunk of one page is a header and then each value behind its
    length, so that sizes alone tell where a value lies. Each length is compared when it is used.
    """

    def __init__(self, path: Path) -> None:
        """Map a local shard."""
        with open(path, "rb") as stream:
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)

    def starts(self, file: pq.ParquetFile, group: int, sizes: Sequence[int]) -> list[int] | None:
        """Where the values of one row group begin; None if the file is not laid out like that.

        Args:
            file: the same shard.
            group: number of the row group.
            sizes: bytes of each value.
        """
        columns = file.metadata.row_group(group)
        facts = columns.column(columns.num_columns - 1)
        if facts.path_in_schema != "features" or facts.has_dictionary_page:
            return None
        if facts.compression != "UNCOMPRESSED":
            return None
        body = sum(sizes) + _LENGTH.size * len(sizes)
        position = facts.data_page_offset + facts.total_compressed_size - body
        starts = []
        for size in sizes:
            if position < 0 or position + _LENGTH.size + size > len(self._map):
                return None
            if _LENGTH.unpack_from(self._map, position)[0] != size:
                return None
            starts.append(position + _LENGTH.size)
            position += _LENGTH.size + size
        return starts

    def read(self, start: int, shape: tuple[int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
        """One value as an array of its own (so it may outlive the file)."""
        values = np.empty(shape, dtype)
        values.ravel()[:] = np.frombuffer(self._map, dtype, values.size, start)
        return values
