"""What makes a folder of results trustworthy: atomic files, content digests, the done-mark.

A file appears whole or not at all: bytes go to a hidden `.partial` neighbour, are fsynced and
renamed, and the folder is fsynced. `DONE.json`, written last, says that a folder is complete.
"""

import json
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

DONE_NAME = "DONE.json"
PARTIAL_SUFFIX = ".partial"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of a finished folder.

    size: [bytes]
    """

    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The done-mark of a folder.

    fingerprint: who made it (`fingerprint`)
    summary:     what the stage told about its work, plain JSON values
    files:       relative name with "/" -> size and SHA-256
    """

    fingerprint: str
    summary: Mapping[str, object]
    files: Mapping[str, FileEntry]


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A neighbouring path to write to; it becomes `path` if the block ends well, else it goes.

    Raises:
        OSError: Disk full, no permission, ...; `path` is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}{PARTIAL_SUFFIX}")
    try:
        mode = _begin(partial, path)
        yield partial
        with open(partial, "rb") as stream:
            if os.fstat(stream.fileno()).st_mode != mode:  # safetensors: for the owner alone
                os.fchmod(stream.fileno(), mode & 0o777)
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise
    _fsync_folder(path.parent)


def _begin(partial: Path, path: Path) -> int:
    """Make the file empty; its mode is what the user's umask makes of a new one."""
    try:
        partial.touch()
        return partial.stat().st_mode
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file or leave things as they were.

    Raises:
        OSError: Disk full, no permission, ...; nothing changed.
    """
    with atomic_path(path) as partial:
        try:
            partial.write_bytes(content)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error


def atomic_write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 text file; line ends stay as they are. Raises as the bytes form."""
    atomic_write_bytes(path, text.encode("utf-8"))


def atomic_write_json(path: Path, value: object, *, indent: int | None = 1) -> None:
    """Write JSON with sorted keys, so that equal values give equal bytes.

    Raises:
        OSError: As `atomic_write_bytes`.
        ValueError: NaN or infinity, which are not JSON.
    """
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, indent=indent, allow_nan=False)
    atomic_write_text(path, text + "\n")


def share_file(source: Path, target: Path) -> None:
    """Let a file that never changes stand in a second place: a hard link, else a copy.

    Raises:
        OSError: Disk full, no permission, ...
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without hard links
        with atomic_path(target) as partial:
            shutil.copyfile(source, partial)


def remove_partials(folder: Path) -> int:
    """Delete what interrupted writes left in a folder and below it.

    Returns:
        Number of files deleted.
    """
    leftovers = [path for path in folder.rglob(f".*{PARTIAL_SUFFIX}") if path.is_file()]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal.

    Raises:
        OSError: The file cannot be read.
    """
    whole = sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            whole.update(chunk)
    return whole.hexdigest()


def files_below(folder: Path) -> Iterator[Path]:
    """All files of a folder and below it in the order of their names, hidden ones left out.

    Folders behind links are not entered.
    """
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(parent, name)


def fingerprint(
    stage: str,
    version: int,
    config: object,
    inputs: Mapping[str, str],
    outside: Mapping[str, str],
) -> str:
    """Who a piece of work is: equal work has an equal fingerprint, wherever and whenever.

    Args:
        stage: name of the stage.
        version: version of the stage's code.
        config: plain JSON values.
        inputs: input name -> fingerprint of what it takes.
        outside: name -> content digest of a file or folder from outside.

    Returns:
        SHA-256 of canonical JSON, hexadecimal.

    Raises:
        TypeError, ValueError: The config holds something that is not JSON.
    """
    identity = {
        "stage": stage,
        "version": version,
        "config": config,
        "inputs": dict(inputs),
        "outside": dict(outside),
    }
    text = json.dumps(
        identity, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False
    )
    return sha256(text.encode("ascii")).hexdigest()


def write_done(folder: Path, fingerprint: str, summary: Mapping[str, object]) -> Done:
    """Mark a folder as complete; leftovers of interrupted writes are removed first.

    Returns:
        What was written.

    Raises:
        OSError: The mark or a file cannot be written or read.
    """
    remove_partials(folder)
    files = {
        path.relative_to(folder).as_posix(): FileEntry(
            size=path.stat().st_size, sha256=sha256_of(path)
        )
        for path in files_below(folder)
        if path != folder / DONE_NAME
    }
    mark = {
        "fingerprint": fingerprint,
        "summary": dict(summary),
        "files": {
            name: {"size": entry.size, "sha256": entry.sha256} for name, entry in files.items()
        },
    }
    atomic_write_json(folder / DONE_NAME, mark)
    return Done(fingerprint=fingerprint, summary=dict(summary), files=files)


def read_done(folder: Path) -> Done | None:
    """The done-mark of a folder; None if there is none or the folder is no longer what it says.

    Every file must be there with its size; contents are not read again (`damaged_files` does).
    """
    try:
        mark = json.loads((folder / DONE_NAME).read_text(encoding="utf-8"))
        done = Done(
            fingerprint=str(mark["fingerprint"]),
            summary=dict(mark["summary"]),
            files={
                str(name): FileEntry(size=int(entry["size"]), sha256=str(entry["sha256"]))
                for name, entry in mark["files"].items()
            },
        )
        if not all(is_inside(name) for name in done.files):
            return None
        sizes = {name: (folder / name).stat().st_size for name in done.files}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if any(sizes[name] != entry.size for name, entry in done.files.items()):
        return None
    return done


def is_inside(name: str) -> bool:
    """Whether a relative name, read from a file, stays below the folder it is meant for."""
    return bool(name) and not name.startswith("/") and ".." not in name.split("/")


def damaged_files(folder: Path, done: Done) -> list[str]:
    """Names of the files whose bytes are no longer those of the done-mark; reads them all."""
    return [
        name for name, entry in done.files.items() if hash_or_none(folder / name) != entry.sha256
    ]


def hash_or_none(path: Path) -> str | None:
    """`sha256_of` a file; None where it cannot be read."""
    try:
        return sha256_of(path)
    except OSError:
        return None


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
