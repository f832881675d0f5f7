"""Where a run's photos and annotations lie; YAML section `data`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from flows.gathering import AutoSplit
from storage.photo_sources.collection import Kind

DATA_VARIABLE = "OSCAR_DATA_DIR"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoCollection:
    """Photos of one place, or of several by a pattern (`VG_100K*`, `train-{000..012}.tar`).

    An image id is `namespace/name of the photo without extension`: its path below a folder, its
    name in a tar, its key in a TSV, its id in a Parquet file.

    path:         a folder; a tar (WebDataset), a Parquet file or a TSV of photos; a text file of
                  paths, or COCO's JSON, beside the photos; the original's YAML of a TSV (`img`,
                  `hw`, `linelist`); any of the first four as a URL of fsspec
                  (`s3://bucket/train.tar`), without password
    kind:         folder, tar, parquet, tsv, list or coco; "" tells by the content
    list:         a list of paths, or COCO's JSON: which photos below `path` count; of a TSV the
                  numbers of its rows
    sizes:        of a TSV: its table of heights and widths (`x.hw.tsv`); a photo of another size
                  is set aside
    photo_column: of a Parquet file: the column of bytes; "" finds it
    id_column:    of a Parquet file: the column that names photos; "" finds it
    """

    path: str
    namespace: str = ""
    kind: Kind | Literal[""] = ""
    list: str = ""
    sizes: str = ""
    photo_column: str = ""
    id_column: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Photos, and what people said about them.

    root:       what the paths below start from; relative to where the command is given, else to
                the folder that OSCAR_DATA_DIR names. With `render_scenes` it is that step's
    images:     collections of photos
    regions:    folders of region shards that are there already (`import-regions`, or the step
                `detect` of another run); they stand for photos and detector, of which neither is
                looked at then
    sources:    one annotation reader each, with its files and options (`flows/readers.py`)
    auto_split: how sources with `split: auto` are divided
    """

    root: Path = Path()
    images: tuple[PhotoCollection, ...] = ()
    regions: tuple[str, ...] = ()
    sources: tuple[Mapping[str, Any], ...] = ()
    auto_split: AutoSplit = field(default_factory=AutoSplit)

    @property
    def is_empty(self) -> bool:
        """Whether there are neither photos nor their regions."""
        return not self.images and not self.regions

    def place(self) -> Path:
        """The root as it lies on this machine."""
        elsewhere = os.environ.get(DATA_VARIABLE)
        if self.root.exists() or elsewhere is None or self.root.is_absolute():
            return self.root
        return Path(elsewhere) / self.root
