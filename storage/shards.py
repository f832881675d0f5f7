"""One shard: a Parquet file of one record kind, written whole, opened with a check.

Columns are stored plain and uncompressed, with a checksum a page; a column chunk is one page.
Equal records give equal bytes.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import DamagedFileError
from storage.manifest import (
    Manifest,
    ShardEntry,
    entry_of,
    read_manifest,
    write_manifest,
)
from storage.places import Place
from storage.schemas import settings_of, stamped

T = TypeVar("T")

ROWS_PER_GROUP = 16
"""Rows of a Parquet row group: what is read together, and what is shuffled as a whole."""
_PAGE_BYTES = 1 << 30  # never reached: a column chunk stays one page
_MEND = "delete it and run the step again"


def write_shard(
    place: Place,
    name: str,
    kind: str,
    settings: Mapping[str, str],
    groups: Iterable[list[dict[str, Any]]],
    own: Mapping[str, str] | None = None,
) -> ShardEntry:
    """Write a shard, one row group for each list of rows; it appears whole or not at all.

    Args:
        place: where to.
        name: file name.
        kind: record kind, which fixes the columns.
        settings: kept in the file's metadata.
        groups: rows as plain values, by column.
        own: what this shard alone says in its metadata.

    Returns:
        Its line for the manifest.

    Raises:
        OSError: Disk full, no permission, ...; names the file.
    """
    schema = stamped(kind, settings, own)
    rows = 0
    try:
        with (
            place.writing(name) as path,
            pq.ParquetWriter(
                str(path),
                schema,
                compression="NONE",
                use_dictionary=False,
                write_statistics=False,
                data_page_size=_PAGE_BYTES,
                write_page_checksum=True,
            ) as writer,
        ):
            for group in groups:
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
                rows += len(group)
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        reason = " ".join((error.strerror or str(error)).split())
        raise OSError(error.errno, reason, place.describe(name)) from error
    return entry_of(place, name, rows)


def open_shard(
    place: Place, name: str, kind: str, *, check_pages: bool = False
) -> tuple[pq.ParquetFile, dict[str, str]]:
    """Open a shard and give back its settings; nothing but the footer is read.

    Args:
        place: where it lies.
        name: file name.
        kind: record kind expected.
        check_pages: compare page checksums while reading.

    Raises:
        MissingFileError: There is no such file.
        DamagedFileError: It is cut, no Parquet, or of another kind or version.
    """
    where = place.describe(name)
    stream = place.open(name)
    try:
        file = pq.ParquetFile(stream, page_checksum_verification=check_pages)
        schema = file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        stream.close()
        raise DamagedFileError(f"{where}: {_reason(error)}; {_MEND}") from error
    try:
        return file, settings_of(schema, kind, where)
    except DamagedFileError:
        stream.close()
        raise


def read_group(
    file: pq.ParquetFile, group: int, where: str, columns: list[str] | None = None
) -> pa.Table:
    """Some columns of one row group.

    Raises:
        DamagedFileError: Its bytes are not what was written; names the shard.
    """
    try:
        return file.read_row_group(group, columns=columns, use_threads=False).combine_chunks()
    except (pa.ArrowException, OSError) as error:
        raise DamagedFileError(f"{where}: row group {group}: {_reason(error)}; {_MEND}") from error


def read_column(file: pq.ParquetFile, column: str, where: str) -> pa.Array:
    """One column of all row groups.

    Raises:
        DamagedFileError: Its bytes are not what was written; names the shard.
    """
    try:
        return file.read(columns=[column], use_threads=False).column(0).combine_chunks()
    except (pa.ArrowException, OSError) as error:
        raise DamagedFileError(f"{where}: column {column!r}: {_reason(error)}; {_MEND}") from error


def finish(
    place: Place, kind: str, settings: Mapping[str, str], entries: list[ShardEntry]
) -> Manifest:
    """Write the manifest, remove shards that are not in it, and read it back."""
    listed = {entry.file for entry in entries}
    for name in place.names():
        if name.endswith((".parquet", ".arrow")) and name not in listed:
            place.remove(name)
    write_manifest(place, kind, settings, entries)
    return read_manifest(place, kind)


def chunks(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` rows, the last one shorter."""
    chunk: list[T] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _reason(error: Exception) -> str:
    """The cause in plain words, one line."""
    said = " ".join(str(error).split())
    if "magic bytes" in said or "footer" in said.lower() or "smaller than" in said:
        return "no whole Parquet file (write interrupted?)"
    return said[:200] or type(error).__name__
