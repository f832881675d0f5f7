"""Where a run's photos and annotations lie; YAML section `data`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.gathering import AutoSplit

DATA_VARIABLE = "OSCAR_DATA_DIR"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoFolder:
    """One folder of photos, or several by a pattern (`VG_100K*`).

    An image id is `namespace/path below the folder without extension`.
    """

    path: str
    namespace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Photos, and what people said about them.

    root:       what the paths below start from; relative to where the command is given, else to
                the folder that OSCAR_DATA_DIR names. With `render_scenes` it is that step's
    images:     folders of photos
    sources:    one annotation reader each, with its files and options (`flows/readers.py`)
    auto_split: how sources with `split: auto` are divided
    """

    root: Path = Path()
    images: tuple[PhotoFolder, ...] = ()
    sources: tuple[Mapping[str, Any], ...] = ()
    auto_split: AutoSplit = field(default_factory=AutoSplit)

    def place(self) -> Path:
        """The root as it lies on this machine."""
        elsewhere = os.environ.get(DATA_VARIABLE)
        if self.root.exists() or elsewhere is None or self.root.is_absolute():
            return self.root
        return Path(elsewhere) / self.root
