"""A shard's contents as text: `oscar-flow shard PATH`."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from storage.errors import DamagedFileError, MissingFileError
from storage.manifest import MANIFEST_NAME, ShardEntry, read_manifest, verify_shard
from storage.places import Place
from storage.schemas import SCHEMA_VERSION, SCHEMAS
from storage.shards import open_shard, read_group

SHOWN_REGIONS = 12


def describe(path: str, limit: int) -> Iterator[str]:
    """Lines that tell what a shard, or a folder of shards, holds.

    Args:
        path: a `.parquet` file or a folder with a manifest; also a URL of fsspec.
        limit: records shown.

    Raises:
        StorageError: Nothing is there, or it is damaged.
    """
    parent, _, name = path.rstrip("/").rpartition("/")
    if name.endswith(".parquet"):
        yield from _shard(Place(parent or "."), name, limit)
        return
    place = Place(path)
    if not Path(path).exists() and "://" not in path:
        raise MissingFileError(f"{path}: no such file or folder")
    manifest = read_manifest(place, _kind_of_folder(place))
    settings = "  ".join(f"{key} {value}" for key, value in manifest.settings.items())
    yield f"{path}: {manifest.num_rows} records in {len(manifest.shards)} shards  {settings}"
    for entry in manifest.shards:
        verify_shard(place, entry)
        yield f"  {entry.file}  {entry.rows} rows  {entry.size} bytes  sha256 {entry.sha256[:12]}"
    yield from _first(place, manifest.shards, limit)


def _shard(place: Place, name: str, limit: int) -> Iterator[str]:
    kind = _kind_of(name, place)
    file, settings = open_shard(place, name, kind, check_pages=True)
    with file:
        rows = file.metadata.num_rows
        told = "  ".join(f"{key} {value}" for key, value in settings.items())
        yield f"{place.describe(name)}: {rows} {kind}, schema version {SCHEMA_VERSION}  {told}"
        yield from islice(_lines(file, kind, place.describe(name), settings), limit)
        if rows > limit:
            yield f"... {rows - limit} more (--limit)"


def _first(place: Place, shards: tuple[ShardEntry, ...], limit: int) -> Iterator[str]:
    """The first records of each kind."""
    for kind in dict.fromkeys(_kind_of(shard.file, place) for shard in shards):
        name = next(shard.file for shard in shards if _kind_of(shard.file, place) == kind)
        yield ""
        yield from _shard(place, name, limit)


def _lines(file: Any, kind: str, where: str, settings: Mapping[str, str]) -> Iterator[str]:
    for group in range(file.num_row_groups):
        for row in read_group(file, group, where).to_pylist():
            yield _FORMS[kind](row, settings)


def _kind_of(name: str, place: Place) -> str:
    kind = name.rpartition("-")[0]
    if kind not in SCHEMAS:
        raise DamagedFileError(
            f"{place.describe(name)}: not a shard of ours, whose names begin with "
            f"{', '.join(SCHEMAS)}"
        )
    return kind


def _kind_of_folder(place: Place) -> str:
    """The kind a folder's shards say; a folder of annotations holds several."""
    kinds = {name.rpartition("-")[0] for name in place.names() if name.endswith(".parquet")} & set(
        SCHEMAS
    )
    if not kinds:
        raise MissingFileError(f"{place.describe(MANIFEST_NAME)}: no shards here")
    only = next(iter(kinds))
    return only if only in ("regions", "tags") else "annotations"


def _regions(row: Mapping[str, Any], settings: Mapping[str, str]) -> str:
    num, width = row["features_shape"]
    lines = [
        f"{row['image_id']}  {row['width']}x{row['height']}  {num} regions, features "
        f"{num}x{width} {settings.get('dtype', '')}  content {row['content_hash'][:12]}"
    ]
    shown = zip(
        row["class_names"],
        row["attribute_names"],
        row["confidences"],
        row["boxes"],
        strict=True,
    )
    for name, attributes, confidence, box in islice(shown, SHOWN_REGIONS):
        corners = " ".join(f"{edge:.0f}" for edge in box)
        lines.append(f"    {confidence:.2f}  {' '.join([*attributes[:3], name]):<32}  [{corners}]")
    return "\n".join(lines)


def _tags(row: Mapping[str, Any], settings: Mapping[str, str]) -> str:
    words = [
        "".join([*attributes[:1], tag]) or "(dropped)"
        for tag, attributes in zip(row["tags"], row["attributes"], strict=True)
    ]
    return f"{row['image_id']}  {row['language']}  {' '.join(words)}"


def _caption(row: Mapping[str, Any], settings: Mapping[str, str]) -> str:
    return f"{row['image_id']}  {row['split']}  {row['language']}  {row['text']}"


def _question(row: Mapping[str, Any], settings: Mapping[str, str]) -> str:
    answers = ", ".join(dict.fromkeys(row["answers"])) or "(hidden)"
    return f"{row['image_id']}  {row['split']}  {row['question']}  {answers}"


def _pair(row: Mapping[str, Any], settings: Mapping[str, str]) -> str:
    verdict = "true" if row["is_true"] else "false"
    return f"{row['pair_id']}  {row['split']}  {row['sentence']}  {verdict}"


def _objects(row: Mapping[str, Any], settings: Mapping[str, str]) -> str:
    named = [
        " ".join([*attributes, name])
        for name, attributes in zip(row["class_names"], row["attributes"], strict=True)
    ]
    return f"{row['image_id']}  {row['split']}  {', '.join(named)}"


_FORMS: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, str]], str]] = {
    "regions": _regions,
    "tags": _tags,
    "captions": _caption,
    "questions": _question,
    "pairs": _pair,
    "objects": _objects,
}
