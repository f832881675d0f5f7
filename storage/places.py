"""Where shards lie: a local folder, or whatever fsspec knows under a URL.

Letters: a name is a file name inside the place, without folders.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

import pyarrow as pa
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from storage.artifacts import PARTIAL_SUFFIX, atomic_path, sha256_of
from storage.errors import MissingFileError, StorageError
from storage.urls import WITHOUT_SECRET, carries_secret, masked

_CHUNK_BYTES = 1 << 20


class Place:
    """A flat folder of files, local or remote; files appear whole or not at all.

    Remote files are put in one piece under their final name, as object stores do it atomically;
    where a store does not, the manifest's checksum tells.
    """

    def __init__(self, place: str | Path) -> None:
        """Name a place; nothing is opened or made.

        Args:
            place: a local path, or any URL of fsspec (`memory://run`, `s3://bucket/run`).

        Raises:
            StorageError: The URL's protocol is unknown or its package is not installed, or it
                carries a password.
        """
        self.name = str(place)
        if isinstance(place, Path) or "://" not in self.name:
            self.folder: Path | None = Path(place)
            return
        if carries_secret(self.name):
            raise StorageError(f"{masked(self.name)}: {WITHOUT_SECRET}")
        try:
            self._store, self._root = url_to_fs(self.name)
        except (ValueError, ImportError) as error:
            raise StorageError(f"{self.name}: {error}") from error
        self.folder = Path(self._root) if isinstance(self._store, LocalFileSystem) else None

    def describe(self, name: str) -> str:
        """The full name of a file, for messages."""
        return f"{self.name.rstrip('/')}/{name}"

    def names(self) -> list[str]:
        """Names of all files, sorted; leftovers of interrupted writes are not files."""
        if self.folder is not None:
            if not self.folder.is_dir():
                return []
            found = [path.name for path in self.folder.iterdir() if path.is_file()]
        else:
            try:
                entries = self._store.ls(self._root, detail=True, refresh=True)
            except FileNotFoundError:
                return []
            found = [
                entry["name"].rsplit("/", 1)[-1] for entry in entries if entry["type"] == "file"
            ]
        return sorted(name for name in found if not name.startswith("."))

    def __contains__(self, name: object) -> bool:
        """Whether there is a file of that name."""
        if self.folder is not None:
            return (self.folder / str(name)).is_file()
        return bool(self._store.isfile(self._remote(str(name))))

    def size(self, name: str) -> int:
        """Size of a file [bytes].

        Raises:
            MissingFileError: There is no such file.
        """
        try:
            if self.folder is not None:
                return (self.folder / name).stat().st_size
            return int(self._store.info(self._remote(name))["size"])
        except FileNotFoundError:
            raise MissingFileError(f"{self.describe(name)}: no such file") from None

    def read(self, name: str) -> bytes:
        """All bytes of a file.

        Raises:
            MissingFileError: There is no such file.
        """
        try:
            if self.folder is not None:
                return (self.folder / name).read_bytes()
            return cast(bytes, self._store.cat_file(self._remote(name)))
        except FileNotFoundError:
            raise MissingFileError(f"{self.describe(name)}: no such file") from None

    def sha256(self, name: str) -> str:
        """SHA-256 of a file, hexadecimal.

        Raises:
            MissingFileError: There is no such file.
        """
        try:
            if self.folder is not None:
                return sha256_of(self.folder / name)
            whole = hashlib.sha256()
            with self._store.open(self._remote(name), "rb") as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    whole.update(chunk)
            return whole.hexdigest()
        except FileNotFoundError:
            raise MissingFileError(f"{self.describe(name)}: no such file") from None

    def open(self, name: str) -> "pa.NativeFile | IO[bytes]":
        """Open a file for reading at random: memory-mapped where local.

        Raises:
            MissingFileError: There is no such file.
        """
        try:
            if self.folder is not None:
                return pa.memory_map(str(self.folder / name), "r")
            return cast("IO[bytes]", self._store.open(self._remote(name), "rb"))
        except FileNotFoundError:
            raise MissingFileError(f"{self.describe(name)}: no such file") from None

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A local path to write to; the file appears in the place if the block ends well.

        Raises:
            OSError: Disk full, no permission, ...; the place is then as it was.
        """
        if self.folder is not None:
            with atomic_path(self.folder / name) as partial:
                yield partial
            return
        descriptor, scratch = tempfile.mkstemp(suffix=PARTIAL_SUFFIX)
        os.close(descriptor)
        try:
            yield Path(scratch)
            self._store.makedirs(self._root, exist_ok=True)
            self._store.put_file(scratch, self._remote(name))
        finally:
            with suppress(OSError):
                os.unlink(scratch)

    def download(self, name: str, path: Path) -> None:
        """Copy a file of the place to a local path.

        Raises:
            MissingFileError: There is no such file.
            OSError: The path cannot be written.
        """
        try:
            if self.folder is not None:
                shutil.copyfile(self.folder / name, path)
            else:
                self._store.get_file(self._remote(name), str(path))
        except FileNotFoundError:
            raise MissingFileError(f"{self.describe(name)}: no such file") from None

    def write(self, name: str, content: bytes) -> None:
        """Write a whole file, or leave things as they were. Raises as `writing`."""
        with self.writing(name) as path:
            path.write_bytes(content)

    def remove(self, name: str) -> None:
        """Delete a file; nothing happens if there is none."""
        if self.folder is not None:
            (self.folder / name).unlink(missing_ok=True)
            return
        with suppress(FileNotFoundError):
            self._store.rm_file(self._remote(name))

    def _remote(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"
