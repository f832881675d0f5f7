"""A collection of photos, of whatever kind, as a stream of photos and of things that are none."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from storage.errors import DamagedFileError, MissingFileError, StorageError
from storage.images import MAGIC as PHOTO_MAGIC
from storage.images import find_images
from storage.photo_files import open_file
from storage.photo_sources.folder import is_remote_folder, remote_photos
from storage.photo_sources.found import Found
from storage.photo_sources.listed import coco_photos, lines_photos
from storage.photo_sources.parquet import MAGIC as PARQUET_MAGIC
from storage.photo_sources.parquet import parquet_photos
from storage.photo_sources.table import table_photos
from storage.photo_sources.tar import BLOCK, is_tar, tar_photos

Kind = Literal["folder", "list", "coco", "tsv", "tar", "parquet"]
"""folder: files, found by their endings. list: a text file, one path a line. coco: COCO's JSON.
tsv: rows with a photo in base64. tar: WebDataset's, too. parquet: a column of bytes."""

_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz",
           b"(\xb5/\xfd": "zstd"}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """Where photos are and how they are told apart.

    place:        a folder, or the file that holds them; a text is a URL of fsspec
    namespace:    first part of their ids; "" for none
    kind:         "" by content
    listing:      a local file that says which photos of a folder count, a list or COCO's JSON; of
                  a TSV which rows
    sizes:        of a TSV: the table of heights and widths
    photo_column: of a Parquet file: where the bytes are; "" finds it
    id_column:    of a Parquet file: what the ids are made of; "" finds it
    """

    place: Path | str
    namespace: str = ""
    kind: Kind | Literal[""] = ""
    listing: Path | None = None
    sizes: Path | None = None
    photo_column: str = ""
    id_column: str = ""


def photos_in(collection: Collection) -> Iterator[Found]:
    """Photos one after the other, and what cannot be used; nothing of it is kept.

    Raises:
        MissingFileError: It is not there.
        StorageError: It is not of a kind that is known, or of another than it should be.
        SourceError: A store does not answer.
    """
    place, namespace = collection.place, collection.namespace
    if collection.listing is not None and not _is_table(collection):
        reads = coco_photos if listing_kind(collection.listing) == "coco" else lines_photos
        return reads(collection.listing, place, namespace)
    match collection.kind or kind_of(place):
        case "folder":
            if isinstance(place, Path):
                return find_images(place, namespace)
            return remote_photos(place, namespace)
        case "tar":
            return tar_photos(place, namespace)
        case "parquet":
            return parquet_photos(place, namespace, collection.photo_column, collection.id_column)
        case "tsv":
            return table_photos(place, namespace, collection.sizes, collection.listing)
        case "list" | "coco" as kind:
            if isinstance(place, str):
                raise StorageError(f"{place}: a list is a local file; name it by list, and by path "
                                   "the folder of the photos")  # fmt: skip
            reads = coco_photos if kind == "coco" else lines_photos
            return reads(place, place.parent, namespace)


def _is_table(collection: Collection) -> bool:
    """Whether a list goes with a TSV, of whose rows it speaks, not with a folder.

    Raises:
        StorageError: It goes with neither.
    """
    place = collection.place
    if collection.kind == "tsv" or not isinstance(place, Path) or not place.is_file():
        return collection.kind == "tsv"
    if kind_of(place) != "tsv":
        raise StorageError(f"{place}: a list names photos of a folder, or rows of a TSV; leave out "
                           f"the list {collection.listing}")  # fmt: skip
    return True


def kind_of(place: Path | str) -> Kind:
    """What lies there, by its content.

    Raises:
        MissingFileError: Nothing does.
        StorageError: It is something that holds no photos that could be read.
    """
    if place.is_dir() if isinstance(place, Path) else is_remote_folder(place):
        return "folder"
    if isinstance(place, Path) and not place.exists():
        raise MissingFileError(f"{place}: no such file or folder")
    head = _head(place)
    if head.startswith(PARQUET_MAGIC):
        return "parquet"
    if is_tar(head):
        return "tar"
    for magic, program in _PACKED.items():
        if head.startswith(magic):
            raise StorageError(
                f"{place}: packed by {program}, photos in it cannot be reached one by one; unpack "
                "it (photos are compressed already)"
            )
    if head.startswith(PHOTO_MAGIC):
        raise StorageError(f"{place}: one photo; name its folder, or a list of photos")
    return _kind_of_text(place, head)


def listing_kind(listing: Path) -> Literal["list", "coco"]:
    """Which of the two a list is. Raises as `kind_of`."""
    if not listing.is_file():
        raise MissingFileError(f"{listing}: no such file")
    return "coco" if _is_json(_head(listing)) else "list"


def _kind_of_text(place: Path | str, head: bytes) -> Kind:
    if not head.strip():
        raise DamagedFileError(f"{place}: the file is empty")
    if b"\0" in head:
        raise StorageError(
            f"{place}: neither a folder nor a tar, a Parquet file, a TSV, a list or COCO's JSON"
        )
    if _is_json(head):
        return "coco"
    return "tsv" if b"\t" in head.split(b"\n")[0] else "list"


def _is_json(head: bytes) -> bool:
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"{", b"["))


def _head(place: Path | str) -> bytes:
    with open_file(place) as stream:
        return stream.read(BLOCK)
