"""Photos in a column of a Parquet file: bytes, or records with a field `bytes`.

The second is how Hugging Face's `datasets` keeps pictures: {"bytes": ..., "path": ...}.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.errors import DamagedFileError
from storage.photo_files import open_file
from storage.photo_sources.found import Found, under_name, without_ending
from storage.records import Cell, ImageSource

MAGIC = b"PAR1"
_PHOTO_NAMES = ("image", "jpg", "jpeg", "png", "webp", "image_bytes", "img", "bytes", "content")
_ID_NAMES = ("image_id", "__key__", "key", "img_id", "file_name", "filename", "id")
_ROWS_AT_ONCE = 4096
_BUFFER_BYTES = 1 << 20


def parquet_photos(
    place: Path | str, namespace: str, photo_column: str = "", id_column: str = ""
) -> Iterator[Found]:
    """Photos of a Parquet file, row by row; only their ids are read.

    An image id is `namespace/id without the ending of a photo`; where there is no column of ids,
    `namespace/name of the file/number of the row`.

    Args:
        place: the file.
        namespace: of the collection; "" for none.
        photo_column: of the photos' bytes; "" finds it.
        id_column: of their ids; "" finds it.

    Raises:
        MissingFileError: There is no such file.
        DamagedFileError: It is no whole Parquet file, or has no such column, or several.
    """
    with open_file(place) as stream:
        file = _opened(stream, place)
        photos = _photo_column(file.schema_arrow, photo_column, place)
        ids = _id_column(file.schema_arrow, photos, id_column, place)
        stem, number = PurePosixPath(str(place)).stem, 0
        for group in range(file.num_row_groups):
            num_rows = file.metadata.row_group(group).num_rows
            row = -1
            for row, told in enumerate(_ids(file, group, ids, num_rows, place)):
                name = f"{stem}/{number:08d}" if told is None else without_ending(str(told))
                cell = Cell(group=group, row=row, column=photos)

                def source_of(image_id: str, cell: Cell = cell) -> ImageSource:
                    return ImageSource(image_id=image_id, path=place, part=cell)

                yield under_name(namespace, name, f"{place}, row {number}", source_of)
                number += 1
            if row + 1 != num_rows:
                raise DamagedFileError(
                    f"{place}: row group {group} has {row + 1} ids for {num_rows} rows; copy it "
                    "again"
                )


def _opened(stream: IO[bytes], place: Path | str) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(stream, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        _ = file.schema_arrow
        return file
    except (pa.ArrowException, OSError) as error:
        said = " ".join(str(error).split())[:200]
        raise DamagedFileError(f"{place}: no whole Parquet file ({said}); copy it again") from error


def _ids(
    file: pq.ParquetFile, group: int, column: str, num_rows: int, place: Path | str
) -> Iterator[object]:
    """What names each row of a group; None where nothing does."""
    if not column:
        yield from (None for _ in range(num_rows))
        return
    first, *inside = column.split(".")
    try:
        for batch in file.iter_batches(
            _ROWS_AT_ONCE, row_groups=[group], columns=[column], use_threads=False
        ):
            values = batch.column(batch.schema.names.index(first))
            yield from (pc.struct_field(values, inside) if inside else values).to_pylist()
    except (pa.ArrowException, OSError) as error:
        said = " ".join(str(error).split())[:200]
        raise DamagedFileError(
            f"{place}: row group {group}, column {column!r}: {said}; copy it again"
        ) from error


def _photo_column(schema: pa.Schema, wanted: str, place: Path | str) -> str:
    """Dotted name of the column of photos.

    Raises:
        DamagedFileError: There is none, or it is not clear which.
    """
    found = [name for field in schema for name in _of_bytes(field)]
    if wanted:
        fitting = [name for name in found if name in (wanted, f"{wanted}.bytes")]
    else:
        named = [name for name in found if name.removesuffix(".bytes") in _PHOTO_NAMES]
        fitting = found if len(found) == 1 else named
    if len(fitting) != 1:
        there = ", ".join(f"{field.name} ({field.type})" for field in schema)[:300]
        raise DamagedFileError(
            f"{place}: {'no column' if not fitting else 'several columns'} of photos' bytes"
            f"{f' called {wanted!r}' if wanted else ''}; name it by photo_column; there are {there}"
        )
    return fitting[0]


def _of_bytes(field: pa.Field) -> Iterator[str]:
    if "." in field.name:  # dots stand for fields inside
        return
    if _is_bytes(field.type):
        yield field.name
    elif pa.types.is_struct(field.type):
        inside = (field.type.field(at) for at in range(field.type.num_fields))
        yield from (
            f"{field.name}.bytes"
            for each in inside
            if each.name == "bytes" and _is_bytes(each.type)
        )


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _id_column(schema: pa.Schema, photos: str, wanted: str, place: Path | str) -> str:
    """Dotted name of the column of ids; "" where there is none.

    Raises:
        DamagedFileError: The one that was named is not there, or holds no texts or whole numbers.
    """
    kinds = {field.name: field.type for field in schema}
    if wanted:
        if wanted not in kinds or not _names(kinds[wanted]):
            raise DamagedFileError(
                f"{place}: no column {wanted!r} of texts or whole numbers (id_column); there are "
                f"{', '.join(kinds)}"
            )
        return wanted
    found = [name for name in _ID_NAMES if name in kinds and _names(kinds[name])]
    if found:
        return found[0]
    holder = photos.partition(".")[0]
    kind = kinds[holder]
    if "." in photos and kind.get_field_index("path") >= 0 and _names(kind.field("path").type):
        return f"{holder}.path"
    return ""


def _names(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)
    )
