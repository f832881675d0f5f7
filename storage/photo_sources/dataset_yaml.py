"""Which files belong to an image table: the small YAML of the original beside it.

img: train.tsv                  the table
hw: train.hw.tsv                heights and widths, row for row
linelist: train.linelist.tsv    which rows count, one number a line
label, labelmap                 what training reads; not needed to see photos

Source: maskrcnn_benchmark/data/datasets/tsv_dataset.py of microsoft/scene_graph_benchmark.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from storage.errors import DamagedFileError, MissingFileError
from storage.photo_files import open_file
from storage.photo_sources.found import inside_problem

SUFFIXES = (".yaml", ".yml")
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFiles:
    """The files that a YAML names, all there.

    images: the table
    sizes:  its heights and widths; None where it names none
    lines:  which of its rows count; None for all
    """

    images: Path
    sizes: Path | None
    lines: Path | None


def is_dataset_yaml(path: Path) -> bool:
    """Whether a path is called as such a YAML is."""
    return path.suffix in SUFFIXES and path.is_file()


def read_dataset_yaml(path: Path) -> TableFiles:
    """Read which files belong together; each must lie beside the YAML or below its folder.

    Raises:
        MissingFileError: The YAML, or a file that it names, is not there.
        DamagedFileError: It is no such YAML, or names a file elsewhere.
    """
    content = _content(path)
    if content.get("composite"):
        raise DamagedFileError(
            f"{path}: composite of several tables; name each table by path, with its sizes and list"
        )
    images = _file(path, content, "img")
    if images is None:
        raise DamagedFileError(f"{path}: no key 'img'; it must name the table of photos")
    return TableFiles(
        images=images, sizes=_file(path, content, "hw"), lines=_file(path, content, "linelist")
    )


def _content(path: Path) -> Mapping[str, Any]:
    with open_file(path) as stream:
        text = stream.read(_MOST_BYTES + 1)
    try:
        content = yaml.safe_load(text) if len(text) <= _MOST_BYTES else None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        said = " ".join(str(error).split())[:200]
        raise DamagedFileError(f"{path}: not YAML ({said})") from error
    if not isinstance(content, dict):
        raise DamagedFileError(f"{path}: must be a YAML of img, hw and linelist")
    return content


def _file(path: Path, content: Mapping[str, Any], key: str) -> Path | None:
    name = content.get(key)
    if name is None:
        return None
    if not isinstance(name, str) or not name or inside_problem(name):
        raise DamagedFileError(
            f"{path}: {key}: {name!r:.200} is no file in its folder; name the files by path, sizes "
            "and list"
        )
    if not (path.parent / name).is_file():
        raise MissingFileError(f"{path.parent / name}: no such file ({path.name}: {key})")
    return path.parent / name
