"""Reads the tables of the Oscar family back into regions, one image at a time, each checked.

A folder holds objects (`predictions.tsv`, `predictions_gt.tsv` or `label.tsv`), features (inside
the objects, or in `features.tsv` or `feature.tsv`) and sizes (inside the rows, or in `hw.tsv` or
`<split>.hw.tsv`); rows of one image are found by their keys. An image is set aside where its rows
are damaged or disagree; in = out + quarantined.

Letters: N regions of one image, D width of the published features.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.box_numbers import NUM_BOX_NUMBERS, boxes_from, orders_of
from storage.errors import DamagedFileError, MissingFileError, RecordError
from storage.images import name_problem
from storage.published.label_maps import LabelMap
from storage.published.name_numbers import NameNumbers
from storage.published.tsv import TsvReader
from storage.published.vinvl_predictions import PublishedObjects, parse_objects, parse_size
from storage.published.vinvl_regions import FeatureTable
from storage.records import ImageLabels, ImageRegions, Quarantined

OBJECT_TABLES = ("predictions.tsv", "predictions_gt.tsv", "label.tsv")
FEATURE_TABLES = ("features.tsv", "feature.tsv")
SIZE_TABLE = "hw.tsv"
_SLACK = 1.0
"""How far a box may reach out of the photo, for rounding [pixels]."""
_THIN = 1 / 200
"""How far a thin box may be turned inside out, as part of the photo's side and at least `_SLACK`.

A refined box ends at x1 + w - 1, in pixels of a network input of 200 or more; w may be below 1.
"""
_LOOKED_AT = 50
"""Images from which the layout of the features is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """Everything the tables say of one image; sizes and boxes are known by now.

    features: (N, D) float32
    boxes:    (N, 4) float32 in pixels of the photo
    size:     height and width [pixels]
    """

    objects: PublishedObjects
    features: NDArray[np.float32]
    boxes: NDArray[np.float32]
    size: tuple[int, int]


class _UnusableRowError(Exception):
    """One image cannot be used; `reason` is a slug for counting."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class PublishedTables:
    """The tables of a folder.

    feature_width: D
    orders:        in which orders the last six numbers of the features are those of the boxes;
                   empty where they are not, both where the images looked at do not tell
    """

    def __init__(self, folder: Path, label_map: LabelMap | None = None) -> None:
        """Open the tables and look at the first images.

        Args:
            folder: where they lie.
            label_map: numbers of the class and attribute names; None: by first occurrence.

        Raises:
            MissingFileError: There are no objects, or nothing with features.
            DamagedFileError: An index does not fit, a key occurs twice, or no image can be read.
        """
        self.folder = folder
        self._objects = TsvReader(_first_of(folder, OBJECT_TABLES))
        self._rows = self._objects.rows_by_key()
        self._features = _feature_table(folder)
        self._feature_rows = self._features.numbers() if self._features is not None else {}
        self._sizes = _size_table(folder)
        self._size_rows = self._sizes.rows_by_key() if self._sizes is not None else {}
        self._names = NameNumbers(label_map)
        self.feature_width, self.orders = self._looked_at()

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def keys(self) -> Sequence[str]:
        """Of all images in the order of the objects; then of those that have features alone."""
        return [*self._rows, *(key for key in self._feature_rows if key not in self._rows)]

    def read(self, key: str, image_id: str, *, keeps_numbers: bool) -> ImageRegions | Quarantined:
        """One image, or why it cannot be used.

        Args:
            key: of its rows.
            image_id: what it is to be called.
            keeps_numbers: the last six numbers stay in the features; else they must be those of
                the boxes, and go.
        """
        try:
            return self._regions(key, image_id, keeps_numbers=keeps_numbers)
        except _UnusableRowError as error:
            detail = " ".join(str(error).split())
            return Quarantined(image_id=image_id, reason=error.reason, detail=detail)

    def remember(self, labels: ImageLabels) -> None:
        """Number the names of an image that was read at another time, as if it was read now."""
        self._names.remember(labels)

    @property
    def label_map(self) -> LabelMap:
        """All names of the images read so far, with their numbers."""
        return self._names.label_map

    def _looked_at(self) -> tuple[int, frozenset[str]]:
        """Width of the features, and the orders that most of the images looked at allow."""
        width, num, problem = 0, 0, ""
        votes: Counter[str] = Counter()
        for key in islice(self._rows, _LOOKED_AT):
            try:
                row = self._row(key)
            except _UnusableRowError as error:
                problem = problem or f" ({error})"
                continue
            if len(row.features):
                num += 1
                width = width or row.features.shape[1]
                votes.update(orders_of(row.features[:, -NUM_BOX_NUMBERS:], row.boxes, *row.size))
        if not num:
            raise DamagedFileError(f"{self.folder}: no region in the first images{problem}")
        return width, frozenset(order for order in votes if 2 * votes[order] > num)

    def _regions(self, key: str, image_id: str, *, keeps_numbers: bool) -> ImageRegions:
        if key not in self._rows:
            detail = f"{self.folder}: features of {key!r}, but no row of it in the objects"
            raise _UnusableRowError("no-objects", detail)
        row = self._row(key)
        features, num = row.features, len(row.features)
        if problem := name_problem(image_id):
            raise _UnusableRowError(problem, f"{self.folder}: key {key!r}")
        if num and features.shape[1] != self.feature_width:
            raise _UnusableRowError(
                "other-width",
                f"{self._where(key)}: features are {features.shape[1]} wide, the first ones "
                f"{self.feature_width}",
            )
        features = features.reshape(num, self.feature_width)
        if not keeps_numbers:
            numbers = features[:, -NUM_BOX_NUMBERS:]
            if num and not orders_of(numbers, row.boxes, *row.size) & self.orders:
                raise _UnusableRowError(
                    "numbers-disagree", f"{self._where(key)}: last six numbers are not of its boxes"
                )
            features = np.ascontiguousarray(features[:, :-NUM_BOX_NUMBERS])
        return self._record(image_id, row, features, key)

    def _record(
        self, image_id: str, row: _Row, features: NDArray[np.float32], key: str
    ) -> ImageRegions:
        objects, num = row.objects, len(row.features)
        confidences = objects.confidences
        try:
            attributes = self._names.attributes(objects)
            return ImageRegions(
                image_id=image_id,
                content_hash="",
                height=row.size[0],
                width=row.size[1],
                boxes=row.boxes,
                features=features,
                class_ids=self._names.class_ids(objects.class_names),
                confidences=np.ones(num, np.float32) if confidences is None else confidences,
                attribute_ids=attributes.ids,
                attribute_scores=attributes.scores,
                class_names=objects.class_names,
                attribute_names=attributes.names,
            )
        except RecordError as error:
            raise _UnusableRowError("unknown-name", f"{self._where(key)}: {error}") from error

    def _row(self, key: str) -> _Row:
        """What the tables say of an image, checked.

        Raises:
            _UnusableRowError: They are damaged, or disagree.
        """
        where = self._where(key)
        try:
            fields = self._objects[self._rows[key]]
            objects = parse_objects(fields[-1] if len(fields) > 1 else "", where)
        except DamagedFileError as error:
            raise _UnusableRowError("damaged-objects", str(error)) from error
        features, num = self._features_of(key, objects), len(objects.class_names)
        if len(features) != num:
            raise _UnusableRowError(
                "counts-disagree", f"{where}: {num} objects, but features of {len(features)}"
            )
        size = objects.size or self._size(key)
        boxes = objects.boxes
        if boxes is None and num and features.shape[1] < NUM_BOX_NUMBERS:
            raise _UnusableRowError("no-boxes", f"{where}: objects without 'rect'")
        if boxes is None:
            numbers = features[:, -NUM_BOX_NUMBERS:] if num else np.zeros((0, 6), np.float32)
            boxes = boxes_from(numbers, *size)
        if problem := _box_problem(boxes, *size):
            raise _UnusableRowError("box-outside", f"{where}: {problem}")
        return _Row(objects=objects, features=features, boxes=boxes, size=size)

    def _features_of(self, key: str, objects: PublishedObjects) -> NDArray[np.float32]:
        if self._features is None:
            if objects.features is None and objects.class_names:
                raise _UnusableRowError(
                    "no-features", f"{self._where(key)}: objects without feature"
                )
            return objects.features if objects.features is not None else np.zeros((0, 0), "f4")
        if key not in self._feature_rows:
            raise _UnusableRowError(
                "no-features", f"{self._features.table.path}: no row of {key!r}"
            )
        try:
            return self._features.read(self._feature_rows[key], key)
        except DamagedFileError as error:
            raise _UnusableRowError("damaged-features", str(error)) from error

    def _size(self, key: str) -> tuple[int, int]:
        if self._sizes is None or key not in self._size_rows:
            raise _UnusableRowError(
                "no-size", f"{self._where(key)}: no size; add {SIZE_TABLE} with a row of it"
            )
        number = self._size_rows[key]
        try:
            return parse_size(self._sizes[number][-1], f"{self._sizes.path}: row {number}")
        except DamagedFileError as error:
            raise _UnusableRowError("no-size", str(error)) from error

    def _where(self, key: str) -> str:
        return f"{self._objects.path}: row {self._rows[key]} of {key!r}"


def _first_of(folder: Path, names: tuple[str, ...]) -> Path:
    if not folder.is_dir():
        raise MissingFileError(f"{folder}: no folder there")
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise MissingFileError(f"{folder}: needs one of {', '.join(names)}")
    return found


def _feature_table(folder: Path) -> FeatureTable | None:
    found = next((name for name in FEATURE_TABLES if (folder / name).is_file()), None)
    return None if found is None else FeatureTable(folder, found)


def _size_table(folder: Path) -> TsvReader | None:
    """The table of sizes, under its own name or that of a split; None without one.

    Raises:
        DamagedFileError: Several splits have one.
    """
    if (folder / SIZE_TABLE).is_file():
        return TsvReader(folder / SIZE_TABLE)
    found = sorted(folder.glob(f"*.{SIZE_TABLE}"))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DamagedFileError(f"{folder}: {names}; which? rename one to {SIZE_TABLE}")
    return TsvReader(found[0]) if found else None


def _box_problem(boxes: NDArray[np.float32], height: int, width: int) -> str:
    """What is wrong with the first box that no detection can be; "" where all can."""
    low, high = boxes[:, :2], boxes[:, 2:]
    size = np.array([width, height])
    is_turned = low - high > np.maximum(_SLACK, _THIN * size)
    outside = (low < -_SLACK) | (high > size + _SLACK) | is_turned
    rows = np.flatnonzero(outside.any(axis=1))
    if not len(rows):
        return ""
    corners = ", ".join(f"{edge:g}" for edge in boxes[rows[0]])
    return f"box {rows[0]} [{corners}] is none of a photo of {width} x {height}"
