"""Tables in Arrow IPC files: written in batches, read through memory mapping.

Nothing is compressed, so that a column is used where it lies in the file: all processes of a
machine share one copy, and opening reads what the checks read. Equal records give equal bytes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage.errors import DamagedFileError
from storage.manifest import ShardEntry, entry_of, shard_name, verify_shard
from storage.places import Place
from storage.schemas import SCHEMAS, settings_of, stamped

SUFFIX = ".arrow"
ROWS_PER_BATCH = 8_192
_ROWS_PER_SHARD = 1 << 20
_MEND = "delete it and run the step again"


class MappedTable:
    """All shards of one record kind as one table; another process opens it anew."""

    def __init__(
        self, place: str | Path, entries: Sequence[ShardEntry], kind: str, *, read_all: bool = True
    ) -> None:
        """Map the shards.

        Args:
            place: a folder, or a URL of fsspec, whose files are then read into memory.
            entries: their lines in the manifest, in order.
            kind: record kind expected.
            read_all: compare checksums and look through all values, which reads every byte.

        Raises:
            DamagedFileError: A shard is missing, cut, changed or of another kind; it is named.
        """
        self._key = (place, tuple(entries), kind)
        where = Place(place)
        tables = []
        for entry in entries:
            if not entry.file.endswith(SUFFIX):
                raise DamagedFileError(
                    f"{where.describe(entry.file)}: of an earlier release; run the step again"
                )
            verify_shard(where, entry, read_all=read_all)
            tables.append(open_table(where, entry.file, kind, look_through=read_all)[0])
            if tables[-1].num_rows != entry.rows:
                raise DamagedFileError(
                    f"{where.describe(entry.file)}: {tables[-1].num_rows} rows, the manifest says "
                    f"{entry.rows}; {_MEND}"
                )
        self.table: pa.Table = pa.concat_tables(tables) if tables else SCHEMAS[kind].empty_table()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, self._key


class MappedWriter:
    """Writes batches of one record kind to numbered shards, without a manifest."""

    def __init__(
        self,
        place: Place,
        kind: str,
        settings: Mapping[str, str] | None = None,
        *,
        rows_per_shard: int = _ROWS_PER_SHARD,
    ) -> None:
        """Name the shards; the first one is begun with the first batch.

        Args:
            place: where to.
            kind: record kind, which fixes the columns.
            settings: kept in each file's metadata.
            rows_per_shard: a shard that has so many is finished.
        """
        self._place = place
        self._kind = kind
        self._schema = stamped(kind, settings or {})
        self._rows_per_shard = rows_per_shard
        self._stack = ExitStack()
        self._file: pa.ipc.RecordBatchFileWriter | None = None
        self._name = ""
        self._rows = 0
        self.entries: list[ShardEntry] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """Write a batch.

        Raises:
            OSError: Disk full, no permission, ...; names the file. Whole shards stay.
        """
        if self._file is None:
            self._begin()
        try:
            self._file.write_batch(batch)  # type: ignore[union-attr]  # begun above
        except OSError as error:
            raise self._named(error) from error
        self._rows += batch.num_rows
        if self._rows >= self._rows_per_shard:
            self.finish()

    def finish(self) -> list[ShardEntry]:
        """End the shard that is being written.

        Returns:
            All shards so far.

        Raises:
            OSError: As `add`.
        """
        if self._file is not None:
            try:
                self._file.close()
                self._stack.close()
            except OSError as error:
                raise self._named(error) from error
            self.entries.append(entry_of(self._place, self._name, self._rows))
            self._file = None
        return self.entries

    def abandon(self, error: BaseException) -> None:
        """Leave nothing of the shard that is being written."""
        self._file = None
        self._stack.__exit__(type(error), error, error.__traceback__)

    def _begin(self) -> None:
        self._name = shard_name(self._kind, len(self.entries), SUFFIX)
        self._rows = 0
        self._stack = ExitStack()
        path = self._stack.enter_context(self._place.writing(self._name))
        stream = self._stack.enter_context(pa.OSFile(str(path), "wb"))
        self._file = pa.ipc.new_file(stream, self._schema)

    def _named(self, error: OSError) -> OSError:
        """The error with the file in it."""
        if error.filename is not None or error.errno is None:
            return error
        reason = " ".join((error.strerror or str(error)).split())
        return OSError(error.errno, reason, self._place.describe(self._name))


def write_batches(
    place: Place,
    kind: str,
    batches: Iterable[pa.RecordBatch],
    *,
    rows_per_shard: int = _ROWS_PER_SHARD,
) -> list[ShardEntry]:
    """Write all batches of one kind, without a manifest. Raises as `MappedWriter.add`."""
    writer = MappedWriter(place, kind, rows_per_shard=rows_per_shard)
    try:
        for batch in batches:
            writer.add(batch)
        return writer.finish()
    except BaseException as error:
        writer.abandon(error)
        raise


def open_table(
    place: Place, name: str, kind: str, *, look_through: bool = True
) -> tuple[pa.Table, dict[str, str]]:
    """Map one shard.

    Args:
        place: where it lies.
        name: file name.
        kind: record kind expected.
        look_through: check every value; a file that was not compared with its checksum must be.

    Returns:
        Its rows and its settings.

    Raises:
        MissingFileError: There is no such file.
        DamagedFileError: It is cut, no Arrow file, or of another kind or version.
    """
    where = place.describe(name)
    stream = place.open(name)
    try:
        with pa.ipc.open_file(stream) as file:
            settings = settings_of(file.schema, kind, where)
            table = file.read_all().replace_schema_metadata(None)
        table.validate(full=look_through)
    except (pa.ArrowException, OSError) as error:
        raise DamagedFileError(
            f"{where}: no whole Arrow file (write interrupted?): "
            f"{' '.join(str(error).split())[:160]}; {_MEND}"
        ) from error
    return table, settings


def rows_of(table: pa.Table) -> Iterator[dict[str, Any]]:
    """All rows as plain values by column, a batch at a time."""
    for batch in table.to_batches(max_chunksize=ROWS_PER_BATCH):
        yield from batch.to_pylist()


def _reopened(place: str | Path, entries: Sequence[ShardEntry], kind: str) -> MappedTable:
    return MappedTable(place, entries, kind, read_all=False)
