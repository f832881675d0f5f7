"""Is everything there that a run reads, and room for what it writes?"""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from flows.config import RunConfig
from flows.errors import ConfigError
from flows.identity import outside_paths
from flows.photo_places import is_url, numbered, placed_entry
from flows.readers import check_entry
from storage.photo_sources.collection import Collection

_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_KILOBYTE = 1024


def missing(config: RunConfig) -> Iterator[str]:
    """One line for every file and folder that a run would look for in vain."""
    if config.render_scenes is None:
        yield from _missing_data(config)
    for key, path in outside_paths(config).items():
        if not key.startswith("data.") and not path.exists():
            yield f"{path}: no such file or folder ({key}); say where it is: --set {key}=PATH"


def photo_collections(config: RunConfig, at: int) -> Iterator[Collection]:
    """The collections of one entry of `data.images` that are there whole.

    Raises:
        StorageError: One of them is nothing that photos could be read from.
    """
    root = config.data.place()
    for placed in placed_entry(config.data, at, lambda path, key: root / path):
        collection = placed.collection()
        files = (Path(collection.place), collection.listing, collection.sizes)
        if all(each is None or each.exists() for each in files):  # else told by `missing`
            yield collection


def free_bytes(out: Path) -> int:
    """Room on the disk where the run folder will be.

    Raises:
        OSError: Not even the root of the path can be looked at.
    """
    return shutil.disk_usage(nearest_there(out)).free


def nearest_there(place: Path) -> Path:
    """The place itself, or the nearest folder above it that exists."""
    place = place.absolute()
    return next(each for each in (place, *place.parents) if each.exists())


def is_writable(out: Path) -> bool:
    """Whether the run folder can be made or written."""
    return os.access(nearest_there(out), os.W_OK | os.X_OK)


def memory_bytes(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Memory that this process and its children may still take; None where nobody tells."""
    found = [_available(meminfo), *map(_limit, _CGROUP_LIMITS)]
    known = [each for each in found if each is not None]
    return min(known) if known else None


def _missing_data(config: RunConfig) -> Iterator[str]:
    root = config.data.place()
    if not root.is_dir():
        yield f"{root}: no such folder (data.root); say where the data lies: --set data.root=FOLDER"
        return
    for at, each in enumerate(config.data.images):
        key = f"data.images.{at}.path"
        if not is_url(each.path):
            yield from _missing_photos(root, each.path, key)
        for name in ("list", "sizes"):
            path = getattr(each, name)
            if path and not (root / path).is_file():
                yield f"{root / path}: no such file (data.images.{at}.{name})"
    for at, path in enumerate(config.data.regions):
        if not (root / path).is_dir():
            yield f"{root / path}: no such folder (data.regions.{at})"
    for number, source in enumerate(config.data.sources):
        yield from _missing_files(root, number, source)


def _missing_photos(root: Path, path: str, key: str) -> Iterator[str]:
    for one in numbered(path):
        if set(one) & set("*?["):
            if not any(root.glob(one)):
                yield f"{root / one}: matches nothing ({key})"
        elif not (root / one).exists():
            yield f"{root / one}: no such folder or file of photos ({key})"


def _missing_files(root: Path, number: int, source: Mapping[str, object]) -> Iterator[str]:
    try:
        entry = check_entry(source)
    except ConfigError as error:
        yield f"data.sources.{number}: {error}"
        return
    for name, path in entry.files.items():
        place, key = root / path, f"data.sources.{number}.{name}"
        if not place.exists():
            yield f"{place}: no such file or folder ({key}, reader {entry.reader})"
        elif not os.access(place, os.R_OK):
            yield f"{place}: may not be read ({key})"
        elif place.is_file() and place.stat().st_size == 0:
            yield f"{place}: is empty ({key})"


def _available(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * _KILOBYTE if found else None


def _limit(path: Path) -> int | None:
    """The limit of a control group; None for none."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() and int(text) < 1 << 60 else None
