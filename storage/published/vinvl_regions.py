"""Region features and detected labels as VinVL publishes them: one image a row of a table.

`features.tsv`       image id, number of boxes, features (pretraining); or
                     image id, `{"num_boxes", "features"}` (captioning and other tasks)
`predictions_gt.tsv` image id, `{"image_h", "image_w", "objects": [{"class", ...}], "gt_objects"}`
`imageid2idx.json`   image id -> number of its row, beside either

Letters: N regions, D feature width (2048 + 6 box numbers in the published files). Features are
base64 of little-endian float32, row by row.
Source: oscar/datasets/oscar_tsv.py, oscar/run_captioning.py of microsoft/Oscar.
"""

import binascii
import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import DamagedFileError
from storage.json_files import read_json
from storage.published.tsv import TsvReader
from storage.published.vinvl_predictions import FLOAT, checked_side

ROW_NUMBERS = "imageid2idx.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedLabels:
    """What a row of labels says of its image.

    height, width:    original size [pixels]
    class_names:      of the detected objects, in the order of the file, repeated ones too
    true_class_names: of annotated objects; None where the row has none of them
    """

    height: int
    width: int
    class_names: tuple[str, ...]
    true_class_names: tuple[str, ...] | None = None

    def chosen(self, *, use_gt_labels: bool) -> tuple[str, ...]:
        """The names that speak for the image: annotated ones first, if they are wanted."""
        if use_gt_labels and self.true_class_names is not None:
            return self.true_class_names
        return self.class_names


class KeyedTable:
    """A table whose rows are found by the image id in their first column."""

    def __init__(self, folder: Path, name: str, row_numbers: str = ROW_NUMBERS) -> None:
        """Open the table of a folder.

        Args:
            folder: where table, line index and row numbers lie.
            name: of the table.
            row_numbers: name of the file of row numbers.

        Raises:
            MissingFileError: There is no such table.
            DamagedFileError: Its index does not fit.
        """
        self.table = TsvReader(folder / name)
        self._row_numbers = folder / row_numbers

    def numbers(self) -> dict[str, int]:
        """Id -> number of its row, from the file beside the table, else from the table.

        Raises:
            DamagedFileError: The file is no such list, or names rows that the table has not.
        """
        if not self._row_numbers.exists():
            return self.table.rows_by_key()
        found = read_json(self._row_numbers, DamagedFileError)
        if not isinstance(found, dict) or not all(type(row) is int for row in found.values()):
            raise DamagedFileError(f"{self._row_numbers}: must be an object of id -> row number")
        if found and not 0 <= min(found.values()) <= max(found.values()) < len(self.table):
            raise DamagedFileError(
                f"{self._row_numbers}: names row {max(found.values())}, {self.table.path.name} has "
                f"{len(self.table)} rows; copy both from one place"
            )
        return found

    def row(self, number: int, key: str) -> tuple[str, ...]:
        """The fields of a row, which must be of that id.

        Raises:
            DamagedFileError: It is another's, or has no second column.
        """
        fields = self.table[number]
        if fields[0] != key:
            raise DamagedFileError(
                f"{self.table.path}: row {number} is of {fields[0]!r}, {self._row_numbers.name} "
                f"says {key!r}; copy both from one place"
            )
        if len(fields) < 2:
            raise DamagedFileError(f"{self.table.path}: row {number} of {key!r} has one column")
        return fields


class FeatureTable(KeyedTable):
    """Features of images by row number."""

    def __init__(self, folder: Path, name: str = "features.tsv") -> None:
        """Open the features of a folder. Raises as `KeyedTable`."""
        super().__init__(folder, name)

    def read(self, number: int, key: str) -> NDArray[np.float32]:
        """(N, D) float32 of the image of a row.

        Raises:
            DamagedFileError: The row is another's, is cut, or holds NaN or infinity.
        """
        fields = self.row(number, key)
        where = f"{self.table.path}: row {number} of {key!r}"
        if len(fields) == 2:
            content = _object(fields[1], where)
            return decode_features(content.get("features"), content.get("num_boxes"), where)
        return decode_features(fields[-1], fields[1], where)


class LabelTable(KeyedTable):
    """Detected labels of images by row number."""

    def __init__(self, folder: Path, name: str = "predictions_gt.tsv") -> None:
        """Open the labels of a folder. Raises as `KeyedTable`."""
        super().__init__(folder, name)

    def read(self, number: int, key: str) -> PublishedLabels:
        """What a row says of its image.

        Raises:
            DamagedFileError: The row is another's or not in this layout.
        """
        where = f"{self.table.path}: row {number} of {key!r}"
        content = _object(self.row(number, key)[1], where)
        height, width = (
            checked_side(content, "image_h", where),
            checked_side(content, "image_w", where),
        )
        true = content.get("gt_objects")
        return PublishedLabels(
            height=height,
            width=width,
            class_names=_class_names(content.get("objects"), "objects", where),
            true_class_names=None if true is None else _class_names(true, "gt_objects", where),
        )


def decode_features(text: object, num: object, where: str) -> NDArray[np.float32]:
    """Features of one image from their base64.

    Args:
        text: base64 of N x D float32.
        num: N, as a number or its digits.
        where: file and row, for the error.

    Returns:
        (N, D) float32 of its own memory; D is 0 where N is.

    Raises:
        DamagedFileError: No base64, another number of bytes than N x D x 4, NaN or infinity.
    """
    digits = str(num) if isinstance(num, str) or type(num) is int else ""
    count = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 10 else -1
    if not isinstance(text, str) or count < 0:
        raise DamagedFileError(f"{where}: needs the number of boxes and base64 of their features")
    try:
        content = b64decode(text, validate=True)
    except binascii.Error as error:
        raise DamagedFileError(f"{where}: features are not base64 ({error}); cut?") from error
    per_row = count * FLOAT.itemsize
    if (per_row == 0 and content) or (per_row and (not content or len(content) % per_row)):
        raise DamagedFileError(
            f"{where}: {len(content)} bytes are not float32 features of {count} boxes; cut?"
        )
    values = np.frombuffer(content, FLOAT).astype(np.float32)
    if not np.isfinite(values).all():
        raise DamagedFileError(f"{where}: features hold NaN or infinity")
    return values.reshape(count, -1) if count else values.reshape(0, 0)


def _object(text: str, where: str) -> Mapping[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{where}: not JSON ({error}); cut?") from error
    if not isinstance(content, dict):
        raise DamagedFileError(f"{where}: a JSON object was expected")
    return content


def _class_names(objects: object, key: str, where: str) -> tuple[str, ...]:
    if not isinstance(objects, list):
        raise DamagedFileError(f"{where}: {key!r} must be a list")
    names = [each.get("class") if isinstance(each, dict) else None for each in objects]
    if not all(isinstance(name, str) for name in names):
        raise DamagedFileError(f"{where}: an entry of {key!r} has no 'class'")
    return tuple(str(name) for name in names)
