"""What a shard, or a folder of shards, holds, in lines to read."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import DamagedFileError, MissingFileError, StorageError
from storage.manifest import MANIFEST_NAME, Manifest, read_manifest, verify_shard
from storage.mapped import SUFFIX, open_table
from storage.places import Place
from storage.schemas import KIND_KEY, SCHEMA_VERSION, SCHEMAS
from storage.shards import open_shard, read_group

_SHOWN_ROWS = 3
_SHOWN_CHARACTERS = 100
_SUFFIXES = (".parquet", SUFFIX)
_FOLDER_KINDS = ("regions", "tags", "annotations")


def describe_shard(path: str | Path) -> Iterator[str]:
    """A shard's kind, version, settings, size and first rows; of a folder, its manifest.

    A folder with damaged shards is described, too, as far as it can be; then follows the error.

    Args:
        path: a Parquet or Arrow file, a folder with a manifest, or the URL of either.

    Yields:
        Lines.

    Raises:
        MissingFileError: Nothing is there, or no manifest in the folder.
        DamagedFileError: It is not a shard of ours, or not what the manifest says.
    """
    name = str(path).rstrip("/")
    parent, _, last = name.rpartition("/")
    if last.endswith(_SUFFIXES):
        yield from _of_file(Place(parent or ("." if "/" not in name else "/")), last)
    else:
        yield from _of_folder(Place(path if isinstance(path, Path) else name))


def _of_folder(place: Place) -> Iterator[str]:
    if MANIFEST_NAME not in place.names():
        shards = [name for name in place.names() if name.endswith(_SUFFIXES)]
        if not shards:
            raise MissingFileError(f"{place.name}: no shards and no {MANIFEST_NAME} here")
        raise MissingFileError(
            f"{place.name}: {len(shards)} shards but no {MANIFEST_NAME}: the folder is incomplete; "
            "name one shard, or run the step again"
        )
    manifest = _manifest(place)
    yield f"folder    {place.name}"
    yield f"kind      {manifest.kind}"
    yield from _settings(manifest.settings)
    yield f"rows      {manifest.num_rows} in {len(manifest.shards)} shards"
    sound: list[str] = []
    damage: list[StorageError] = []
    for shard in manifest.shards:
        state = "sound"
        try:
            verify_shard(place, shard)
            sound.append(shard.file)
        except StorageError as error:
            state = "damaged"
            damage.append(error)
        yield f"  {shard.file}  {shard.rows} rows  {shard.size:,} bytes  {state}"
    if sound:
        yield ""
        yield from _of_file(place, sound[0])
    if damage:
        raise damage[0]


def _manifest(place: Place) -> Manifest:
    """The manifest of a folder of any kind."""
    for kind in _FOLDER_KINDS[:-1]:
        with suppress(DamagedFileError):
            return read_manifest(place, kind)
    return read_manifest(place, _FOLDER_KINDS[-1])


def _of_file(place: Place, name: str) -> list[str]:
    if name.endswith(SUFFIX):
        kind = _arrow_kind(place, name)
        table, settings = open_table(place, name, kind)
        held = f"{table.num_rows} in {len(table.to_batches())} batches"
        rows, num_rows = table.slice(0, _SHOWN_ROWS).to_pylist(), table.num_rows
    else:
        kind = _parquet_kind(place, name)
        file, settings = open_shard(place, name, kind)
        with file:
            num_rows = file.metadata.num_rows
            held = f"{num_rows} in {file.metadata.num_row_groups} row groups"
            rows = list(_first_rows(file, place.describe(name)))
    lines = [
        f"shard     {place.describe(name)}",
        f"kind      {kind}, schema version {SCHEMA_VERSION}",
        *_settings(settings),
        f"rows      {held}, {place.size(name):,} bytes",
    ]
    for number, row in enumerate(rows):
        lines += ["", f"row {number}"]
        lines += [f"  {key:17} {_shown(key, value, row)}" for key, value in row.items()]
    left = num_rows - _SHOWN_ROWS
    return [*lines, "", f"... and {left} more rows"] if left > 0 else lines


def _parquet_kind(place: Place, name: str) -> str:
    """The kind a Parquet file says it is of.

    Raises:
        DamagedFileError: It says nothing of the sort.
    """
    stream = place.open(name)
    try:
        with pq.ParquetFile(stream) as file:
            schema = file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise _not_whole(place, name, "Parquet") from error
    return _kind(place, name, schema)


def _arrow_kind(place: Place, name: str) -> str:
    """The kind an Arrow file says it is of. Raises as `_parquet_kind`."""
    stream = place.open(name)
    try:
        with pa.ipc.open_file(stream) as file:
            schema = file.schema
    except (pa.ArrowException, OSError) as error:
        raise _not_whole(place, name, "Arrow") from error
    return _kind(place, name, schema)


def _kind(place: Place, name: str, schema: pa.Schema) -> str:
    said = str((schema.metadata or {}).get(KIND_KEY.encode(), b""), "utf-8")
    if said not in SCHEMAS:
        raise DamagedFileError(f"{place.describe(name)}: not a shard of this program")
    return said


def _not_whole(place: Place, name: str, what: str) -> DamagedFileError:
    return DamagedFileError(
        f"{place.describe(name)}: no whole {what} file (write interrupted?); run the step again"
    )


def _first_rows(file: pq.ParquetFile, where: str) -> Iterator[Mapping[str, Any]]:
    left = _SHOWN_ROWS
    for group in range(file.num_row_groups):
        if left <= 0:
            return
        rows = read_group(file, group, where).slice(0, left).to_pylist()
        left -= len(rows)
        yield from rows


def _settings(settings: Mapping[str, str]) -> list[str]:
    return [f"setting   {key} = {value}" for key, value in settings.items()]


def _shown(key: str, value: Any, row: Mapping[str, Any]) -> str:
    """A value on one line, not too long."""
    if isinstance(value, bytes):
        shape = " x ".join(map(str, row.get(f"{key}_shape", [len(value)])))
        return f"{shape}, {len(value):,} bytes"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        parts = (_shown(key, each, row) for each in value[:_SHOWN_CHARACTERS])
        return _cut(f"[{', '.join(parts)}]" + (f"  ({len(value)})" if len(value) > 4 else ""))
    return _cut(" ".join(str(value).split()))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."
