"""`manifest.json`: which shards a folder holds, with row counts and checksums; written last."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from storage.errors import DamagedFileError, MissingFileError
from storage.places import Place
from storage.schemas import SCHEMA_VERSION

MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardEntry:
    """One shard.

    rows: number of records
    size: [bytes]
    """

    file: str
    rows: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All shards of a folder in their order.

    settings: what all shards have in common (detector, geometry, feature width, ...)
    """

    kind: str
    settings: Mapping[str, str]
    shards: tuple[ShardEntry, ...]

    @property
    def num_rows(self) -> int:
        """Records in all shards."""
        return sum(shard.rows for shard in self.shards)

    def of_kind(self, kind: str) -> tuple[ShardEntry, ...]:
        """Shards of one record kind, by file name."""
        return tuple(shard for shard in self.shards if shard.file.startswith(f"{kind}-"))


def shard_name(kind: str, number: int, suffix: str = ".parquet") -> str:
    """File name of a shard, e.g. `regions-00007.parquet`."""
    return f"{kind}-{number:05d}{suffix}"


def is_file_name(name: str) -> bool:
    """Whether a name from a manifest is that of a file in the manifest's folder."""
    return bool(name) and "/" not in name and not name.startswith(".")


def entry_of(place: Place, name: str, rows: int) -> ShardEntry:
    """The manifest line of a shard as it lies in the place."""
    return ShardEntry(file=name, rows=rows, size=place.size(name), sha256=place.sha256(name))


def write_manifest(
    place: Place, kind: str, settings: Mapping[str, str], shards: Sequence[ShardEntry]
) -> None:
    """Write the manifest, which completes the folder; equal content gives equal bytes.

    Raises:
        OSError: It cannot be written; the folder stays incomplete.
    """
    content = {
        "kind": kind,
        "schema_version": SCHEMA_VERSION,
        "settings": dict(settings),
        "num_rows": sum(shard.rows for shard in shards),
        "shards": [
            {"file": shard.file, "rows": shard.rows, "size": shard.size, "sha256": shard.sha256}
            for shard in shards
        ],
    }
    text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    place.write(MANIFEST_NAME, text.encode("utf-8"))


def read_manifest(place: Place, kind: str) -> Manifest:
    """Read a manifest without looking at the shards.

    Raises:
        MissingFileError: There is none: never written, or the writing was interrupted.
        DamagedFileError: It is none, or of another kind or version.
    """
    where = place.describe(MANIFEST_NAME)
    try:
        text = place.read(MANIFEST_NAME).decode("utf-8")
    except MissingFileError:
        raise MissingFileError(
            f"{where}: no such file; the folder is incomplete, run the step that writes it again"
        ) from None
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"{where}: byte {error.start} is not UTF-8") from error
    try:
        content = json.loads(text)
        found, version = str(content["kind"]), int(content["schema_version"])
        manifest = Manifest(
            kind=found,
            settings={str(key): str(value) for key, value in content["settings"].items()},
            shards=tuple(
                ShardEntry(
                    file=str(shard["file"]),
                    rows=int(shard["rows"]),
                    size=int(shard["size"]),
                    sha256=str(shard["sha256"]),
                )
                for shard in content["shards"]
            ),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFileError(f"{where}: not a manifest ({error}); run the step again") from error
    outside = [shard.file for shard in manifest.shards if not is_file_name(shard.file)]
    if outside:
        raise DamagedFileError(f"{where}: {outside[0]!r} is no file of this folder")
    if version != SCHEMA_VERSION:
        raise DamagedFileError(
            f"{where}: schema version {version}, this program reads {SCHEMA_VERSION}"
        )
    if found != kind:
        raise DamagedFileError(f"{where}: a folder of {found!r}, expected {kind!r}")
    if any("/" in shard.file or shard.file.startswith(".") for shard in manifest.shards):
        raise DamagedFileError(f"{where}: names files outside its folder")
    return manifest


def verify_shard(place: Place, shard: ShardEntry, *, read_all: bool = True) -> None:
    """Check that a shard is still what the manifest says.

    Args:
        place: where it lies.
        shard: its line in the manifest.
        read_all: compare the checksum too, not the size alone.

    Raises:
        DamagedFileError: It is missing, cut, or changed; the message names it.
    """
    where = place.describe(shard.file)
    mend = "delete it and the manifest, then run the step again"
    try:
        size = place.size(shard.file)
    except MissingFileError:
        raise DamagedFileError(f"{where}: missing, though the manifest lists it; {mend}") from None
    if size != shard.size:
        raise DamagedFileError(
            f"{where}: {size} bytes, the manifest says {shard.size} (write interrupted?); {mend}"
        )
    if read_all and place.sha256(shard.file) != shard.sha256:
        raise DamagedFileError(f"{where}: bytes changed since it was written (SHA-256); {mend}")
