"""Frees what a run no longer needs: `oscar-flow clean DIR [--yes]`.

Kept: the folders of the latest plan (`steps.json`), of the newest two entries of the history and
those that a configuration of these names; all of `models/`; and of a step that is not done the
newest finished folder, from which it may copy. A folder is moved out of the way by one rename
before its files go, so that nothing half deleted is ever taken for work to go on with.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from flows.digests import listings_of, looks_name
from flows.errors import FlowError
from flows.history import passed
from flows.identity import IDENTITY, step_folders
from flows.run_folder import RunFolder, locked
from storage.artifacts import DONE_NAME, PARTIAL_SUFFIX, read_done

DISCARDED = "discarded"
MODELS = "models"
KEPT_ENTRIES = 2
SECTIONS = ("logs", "attempts")
"""Folders of one file for each step folder, named after it."""
_STEP_FOLDER = re.compile(r"(.+)-[0-9a-f]{12}")
_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Something that nobody needs.

    bytes: that its removal frees; what a registered model shares with it stays on the disk
    """

    path: Path
    why: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All of it."""

    items: tuple[Item, ...]

    def table(self) -> Table:
        """What would go, why, and how much that is; small files of a kind on one line."""
        table = Table(box=None, pad_edge=False)
        for heading in ("what", "why"):
            table.add_column(heading, no_wrap=heading == "what")
        table.add_column("size", justify="right", no_wrap=True)
        files: dict[str, list[Item]] = {}
        for item in self.items:
            if item.path.is_dir():
                table.add_row(item.path.name, item.why, in_bytes(item.bytes))
            else:
                files.setdefault(item.why, []).append(item)
        for why, items in files.items():
            table.add_row(f"{len(items)} files", why, in_bytes(_total(items)))
        table.add_row("all", "" if self.items else "nothing to free", in_bytes(_total(self.items)))
        return table


def cleanable(run: Path) -> Found:
    """What nobody needs any more; nothing is touched.

    Raises:
        FlowError: The folder holds no run.
    """
    folder = RunFolder(run)
    if not folder.config.is_file() or not folder.steps.is_file():
        raise FlowError(f"{run}: no run here; name the folder of a run")
    kept = _kept(folder)
    return Found(
        items=(
            *_older_folders(run, kept),
            *_discarded(run),
            *_partials(run, kept),
            *_records(run, kept),
            *_listings(folder, kept),
        )
    )


def free(run: Path, found: Found) -> str:
    """Delete what was found and is still needed by nobody.

    Returns:
        How much that was, in words.

    Raises:
        RunLockedError: Another process works on the run.
        OSError: Something cannot be deleted.
    """
    folder = RunFolder(run)
    wanted = {item.path for item in found.items}
    with locked(folder):
        items = [item for item in cleanable(run).items if item.path in wanted]
        for item in items:
            _remove(item.path, run / DISCARDED)
        with suppress(OSError):
            (run / DISCARDED).rmdir()
    return f"{in_bytes(_total(items))} in {len(items)} folders and files"


def in_bytes(number: int) -> str:
    """A size as people read it."""
    size = float(number)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


def _kept(run: RunFolder) -> frozenset[str]:
    """Names of the step folders that must stay.

    Raises:
        FlowError: `steps.json` is damaged: then nobody knows.
    """
    try:
        steps: Mapping[str, str] = json.loads(run.steps.read_text(encoding="utf-8"))
        kept = {str(folder) for folder in steps.values()}
    except (OSError, ValueError, AttributeError) as error:
        raise FlowError(f"{run.steps}: {error}; run the run's command again first") from error
    entries = passed(run)[-KEPT_ENTRIES:]
    for entry in entries:
        kept |= set(entry.folders.values())
    configs = "\n".join([_text(run.config), *(entry.config for entry in entries)])
    kept |= {path.name for path in run.path.iterdir() if f"/{path.name}/" in configs}
    for step, name in steps.items():
        if read_done(run.path / name) is None:
            finished = [path for path in step_folders(run, step) if read_done(path) is not None]
            if finished:
                kept.add(max(finished, key=_finished_at).name)
    return frozenset(kept)


def _finished_at(folder: Path) -> int:
    return (folder / DONE_NAME).stat().st_mtime_ns


def _older_folders(run: Path, kept: frozenset[str]) -> Iterator[Item]:
    """Folders of steps that belong to older settings, data or code."""
    for path in sorted(run.iterdir()):
        if path.name in kept or path.is_symlink() or not path.is_dir():
            continue
        if _STEP_FOLDER.fullmatch(path.name) and (
            (path / IDENTITY).is_file() or not any(path.iterdir())
        ):
            yield Item(path=path, why="of older settings or data", bytes=_freed(path))


def _discarded(run: Path) -> Iterator[Item]:
    place = run / DISCARDED
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        yield Item(path=path, why="set aside earlier", bytes=_freed(path))


def _partials(run: Path, kept: frozenset[str]) -> Iterator[Item]:
    """What writes that were interrupted left behind."""
    names = [name for name in sorted(kept) if _STEP_FOLDER.fullmatch(name) and "/" not in name]
    places = [run / name for name in names] + [run / "state", run / "history"]
    found = [path for place in places for path in place.rglob(f".*{PARTIAL_SUFFIX}")]
    for path in [*run.glob(f".*{PARTIAL_SUFFIX}"), *found]:
        if path.is_file() and not path.is_symlink():
            yield Item(path=path, why="writing was interrupted", bytes=_freed(path))


def _records(run: Path, kept: frozenset[str]) -> Iterator[Item]:
    """Logs and attempts of folders that go or are gone."""
    for section in SECTIONS:
        for path in sorted((run / section).glob("*.jsonl")):
            if path.stem not in kept and _STEP_FOLDER.fullmatch(path.stem):
                yield Item(path=path, why=f"{section} of older folders", bytes=_freed(path))


def _listings(run: RunFolder, kept: frozenset[str]) -> Iterator[Item]:
    """What photo folders held at times that nobody compares with any more."""
    shelf = listings_of(run.digests)
    texts = [run.path / name / IDENTITY for name in kept]
    texts += [run.digests, run.path / "dataset.json", *run.path.glob(f"{MODELS}/*/*.json")]
    texts += run.path.glob(f"{MODELS}/*.json")
    needed = {digest for path in texts for digest in _DIGEST.findall(_text(path))}
    with suppress(OSError, ValueError, KeyError, AttributeError):
        needed |= {looks_name(place) for place in json.loads(_text(run.digests))["folders"]}
    for path in sorted(shelf.glob("*")) if shelf.is_dir() else ():
        if path.stem not in needed and path.name not in needed:
            yield Item(path=path, why="lists of older photo folders", bytes=_freed(path))


def _text(path: Path) -> str:
    with suppress(OSError, ValueError):
        return path.read_text(encoding="utf-8")
    return ""


def _freed(path: Path) -> int:
    """Bytes that no other name keeps."""
    files = [path] if not path.is_dir() else list(path.rglob("*"))
    looks = [each.lstat() for each in files if each.is_symlink() or each.is_file()]
    return sum(look.st_size for look in looks if look.st_nlink == 1)


def _total(items: Iterable[Item]) -> int:
    return sum(item.bytes for item in items)


def _remove(path: Path, discarded: Path) -> None:
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    if path.parent != discarded:
        place = discarded / path.name
        discarded.mkdir(exist_ok=True)
        if place.exists():
            shutil.rmtree(place)
        os.rename(path, place)
        path = place
    shutil.rmtree(path)
