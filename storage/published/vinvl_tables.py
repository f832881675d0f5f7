"""Writes regions as the tables that the Oscar family reads, each with its `.lineidx`.

`vinvl`        what retrieval and pretraining read: `features.tsv` (key, N, base64 of (N, F)
               float32), `imageid2idx.json` (key -> row), `predictions.tsv` and, with the same
               rows, `predictions_gt.tsv`; for captioning's words `label.tsv`
`captioning`   `feature.tsv` (key, `{"num_boxes", "features"}`), `label.tsv` and `hw.tsv`, row for
               row
`predictions`  what the detector program wrote: `predictions.tsv` with a feature in each object;
               and `hw.tsv`, the sizes of the photos

Letters: N regions of one image, D appearance width, F = D + 6.
Source: specs/detector.md 7; specs/oscar.md 5; specs/tasks.md (captioning, retrieval).
"""

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from storage.artifacts import atomic_write_text
from storage.errors import RecordError
from storage.published.tsv import TsvWriter
from storage.published.vinvl_predictions import (
    FLOAT,
    label_text,
    prediction_text,
    published_objects,
    sized_text,
)
from storage.published.vinvl_regions import ROW_NUMBERS
from storage.records import ImageRegions

Layout = Literal["vinvl", "captioning", "predictions"]
_TABLES: dict[Layout, tuple[str, ...]] = {
    "vinvl": ("features.tsv", "predictions.tsv", "predictions_gt.tsv", "label.tsv"),
    "captioning": ("feature.tsv", "label.tsv", "hw.tsv"),
    "predictions": ("predictions.tsv", "hw.tsv"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """One image of the tables.

    key:     first column
    regions: its detections
    inputs:  (N, F) float32  what a model reads: appearance and six box numbers
    width:   D, the appearance alone
    """

    key: str
    regions: ImageRegions
    inputs: NDArray[np.float32]
    width: int


def write_tables(folder: Path, rows: Iterable[TableRow], layout: Layout) -> list[Path]:
    """Write the tables of a layout, one row at a time in memory; they appear when all are whole.

    Args:
        folder: where to.
        rows: in the order of the tables.
        layout: which tables.

    Returns:
        The files, without their indices.

    Raises:
        RecordError: A key occurs twice, or would not be read back as it is.
        OSError: A table cannot be written; nothing of them appears.
    """
    keys: dict[str, int] = {}
    with _writers(folder, layout) as add:
        for row in rows:
            if row.key in keys:
                raise RecordError(f"{folder}: two images have the key {row.key!r}")
            if row.key != row.key.strip() or not row.key:
                raise RecordError(f"{folder}: {row.key!r} would lose its outer white space")
            keys[row.key] = len(keys)
            add(row)
    tables = [folder / name for name in _TABLES[layout]]
    if layout == "vinvl":
        atomic_write_text(folder / ROW_NUMBERS, json.dumps(keys))
        tables.append(folder / ROW_NUMBERS)
    return tables


@contextmanager
def _writers(folder: Path, layout: Layout) -> Iterator[Callable[[TableRow], None]]:
    """What takes a row and puts it into every table of the layout."""
    with ExitStack() as stack:
        tables = {name: stack.enter_context(TsvWriter(folder / name)) for name in _TABLES[layout]}

        def add(row: TableRow) -> None:
            for name, fields in _COLUMNS[layout](row).items():
                tables[name].add((row.key, *fields))

        yield add


def _vinvl(row: TableRow) -> dict[str, tuple[str, ...]]:
    objects = published_objects(row.regions)
    sized = sized_text(objects)
    return {
        "features.tsv": (str(len(row.inputs)), coded_features(row.inputs)),
        "predictions.tsv": (sized,),
        "predictions_gt.tsv": (sized,),
        "label.tsv": (label_text(objects),),
    }


def _captioning(row: TableRow) -> dict[str, tuple[str, ...]]:
    content = {"num_boxes": len(row.inputs), "features": coded_features(row.inputs)}
    return {
        "feature.tsv": (json.dumps(content),),
        "label.tsv": (label_text(published_objects(row.regions)),),
        "hw.tsv": (_size_text(row),),
    }


def _predictions(row: TableRow) -> dict[str, tuple[str, ...]]:
    appearance = np.ascontiguousarray(row.inputs[:, : row.width])
    objects = published_objects(row.regions, features=appearance)
    return {"predictions.tsv": (prediction_text(objects),), "hw.tsv": (_size_text(row),)}


def _size_text(row: TableRow) -> str:
    return json.dumps([{"height": row.regions.height, "width": row.regions.width}])


_COLUMNS: dict[Layout, Callable[[TableRow], dict[str, tuple[str, ...]]]] = {
    "vinvl": _vinvl,
    "captioning": _captioning,
    "predictions": _predictions,
}


def coded_features(features: NDArray[np.floating]) -> str:
    """Base64 of little-endian float32, row by row."""
    return b64encode(features.astype(FLOAT).tobytes()).decode()
