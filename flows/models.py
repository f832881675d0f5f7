"""Registered models of a run: numbered versions, which one is current, and how that came about.

models/0001/            model folders by step, `config.yaml`, `lineage.json`, `README.md`, DONE.json
models/current          link to the version in use, switched in one step
models/history.jsonl    every decision, one object a line
models/judged.json      the version judged last, and the data that this settled
A version never changes; it appears whole or not at all. Files are hard links to those of the run's
steps where the file system has them, so a version costs no space while its steps are there.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flows.errors import MissingModelError
from flows.intact import check_kept
from flows.lineage import Lineage, read_lineage
from flows.run_folder import RunFolder, utc_now
from flows.version_card import version_card
from storage.artifacts import (
    DONE_NAME,
    atomic_write_json,
    atomic_write_text,
    damaged_files,
    files_below,
    read_done,
    share_file,
    write_done,
)

LINEAGE, CARD, CONFIG = "lineage.json", "README.md", "config.yaml"
REGISTERED, PROMOTED, KEPT, ROLLED_BACK, REMOVED = (
    "registered",
    "promoted",
    "kept",
    "rolled back",
    "removed",
)
"""What can happen to a version. `kept`: it was judged, and the current one stayed."""
JUDGED = "judged.json"
_CURRENT = "current"
_UNFINISHED = ".unfinished-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version on disk."""

    folder: Path
    lineage: Lineage

    @property
    def name(self) -> str:
        """Its number, as a name: `0001`."""
        return self.folder.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A line of the history.

    previous: version that was current before
    gate:     rows of the verdict, where there was one
    """

    at: str
    event: str
    version: str
    previous: str = ""
    why: str = ""
    gate: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What was decided about last.

    version: its number
    data:    digests of the data that is settled thereby (`flows.dataset`)
    """

    version: str
    data: Mapping[str, Any]


class Registry:
    """The versions of one run folder. Reading needs no lock; changes take turns."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.path = run.path / "models"

    def versions(self) -> list[Version]:
        """All whole versions, oldest first."""
        found = []
        for folder in sorted(self.path.glob("[0-9]*")):
            lineage = read_lineage(folder / LINEAGE) if folder.name.isdigit() else None
            if lineage is not None and read_done(folder) is not None:
                found.append(Version(folder=folder, lineage=lineage))
        return sorted(found, key=lambda version: int(version.name))

    def version(self, name: str) -> Version:
        """A version by its number; `2` is `0002`.

        Raises:
            MissingModelError: There is none of that number.
        """
        wanted = name.strip().zfill(4)
        versions = self.versions()
        for version in versions:
            if version.name == wanted:
                return version
        known = ", ".join(version.name for version in versions) or "none yet"
        raise MissingModelError(f"{self.path}: no version {name!r}; there are {known}")

    def current(self) -> Version | None:
        """The version in use; None before the first promotion, and where it is not whole."""
        name = self.current_name()
        return next((each for each in self.versions() if each.name == name), None)

    def current_name(self) -> str:
        """Number of the version in use, be it whole or not; "" before the first promotion."""
        try:
            return os.readlink(self.path / _CURRENT)
        except OSError:
            return ""

    def in_use(self) -> Version | None:
        """The version in use, for those who measure by it or build on it; None for none yet.

        Raises:
            MissingModelError: There is one, and it is not whole.
        """
        current, name = self.current(), self.current_name()
        if current is None and name:
            mend = "promote" if self.previous() is None else "rollback"
            raise MissingModelError(
                f"{self.path / name}: current, and not whole; "
                f"oscar-flow models {mend} {self.run.path}"
            )
        return current

    def previous(self) -> Version | None:
        """What a rollback goes back to: the version that was current before this one."""
        current = self.current_name()
        way = [name for name in self._way() if name != current]
        return self.version(way[-1]) if way else None

    def history(self) -> list[Event]:
        """Everything that was decided, oldest first; a line cut by a crash is left out."""
        events: list[Event] = []
        with suppress(OSError):
            for line in (self.path / "history.jsonl").read_bytes().splitlines():
                with suppress(ValueError, TypeError):
                    events.append(Event(**json.loads(line)))
        return events

    def judged(self) -> Judged | None:
        """What was decided about last, whatever was decided; None before the first decision.

        Without a note of it, the newest version that was decided about, and its data.
        """
        versions = {version.name: version for version in self.versions()}
        with suppress(OSError, ValueError, KeyError, TypeError):
            content = json.loads((self.path / JUDGED).read_text(encoding="utf-8"))
            noted = Judged(version=str(content["version"]), data=dict(content["data"]))
            if noted.version in versions:
                return noted
        decided = {each.version for each in self.history() if each.event in (PROMOTED, KEPT)}
        found = [version for name, version in versions.items() if name in decided]
        return Judged(version=found[-1].name, data=found[-1].lineage.data) if found else None

    def settle(self, name: str, data: Mapping[str, Any]) -> None:
        """Note that a version was judged, and that this data holds nothing new since.

        Data that goes back to what it was gives an old version again, so numbers do not tell.
        """
        with self._locked():
            atomic_write_json(self.path / JUDGED, asdict(Judged(version=name, data=dict(data))))

    def register(self, folders: Mapping[str, Path], lineage: Lineage, config: str) -> Version:
        """Keep models as a new version; the same models with the same metrics are not kept twice.

        Args:
            folders: step -> its model folder.
            lineage: where they come from.
            config: the run's configuration as YAML.

        Raises:
            MissingModelError: There is no model to keep.
            SpoiledModelError: Bytes of one changed since it was made.
            OSError: The version cannot be written; nothing changed.
        """
        if not folders:
            raise MissingModelError(f"{self.run.path}: this run trains no model")
        with self._locked():
            for version in self.versions():
                if version.lineage.is_same_work(lineage) and not _damage(version):
                    return version
            folder = self._written(folders, lineage, config)
            self._note(REGISTERED, folder.name)
            return Version(folder=folder, lineage=lineage.as_version(folder.name))

    def promote(self, name: str, *, why: str, gate: list[dict[str, str]] | None = None) -> Version:
        """Make a version the current one.

        Raises:
            MissingModelError: There is no such version, or its files are damaged.
        """
        with self._locked():
            version = self._sound(name)
            self._switch(version, PROMOTED, why, gate or [])
            return version

    def keep(self, name: str, *, why: str, gate: list[dict[str, str]]) -> None:
        """Note that a candidate was judged and the current version stays."""
        with self._locked():
            self._note(KEPT, name, why=why, gate=gate, previous=self.current_name())

    def rollback(self, name: str | None = None) -> Version:
        """Go back to the version that was current before, or to a named one.

        Raises:
            MissingModelError: There is nothing to go back to, or its files are damaged.
        """
        with self._locked():
            if name is None:
                before = self.previous()
                if before is None:
                    raise MissingModelError(
                        f"{self.path}: no version was current before; oscar-flow models list "
                        f"{self.run.path} shows what there is"
                    )
                name = before.name
            version = self._sound(name)
            self._switch(version, ROLLED_BACK, "asked for", [])
            return version

    def prune(self, keep: int, needed: str = "") -> list[str]:
        """Remove the oldest versions beyond a number of past ones.

        Current, previous, newest and judged last stay, and those whose folder a text names.

        Args:
            keep: versions that stay besides the current one.
            needed: text that may name folders of versions, as the run's configuration does.

        Returns:
            Names of what was removed.
        """
        with self._locked():
            versions = self.versions()
            stays = {*self._way()[-2:], *(each.name for each in versions[-1:])}
            stays |= {each.name for each in versions if f"{self.path.name}/{each.name}" in needed}
            judged = self.judged()
            stays |= {judged.version} if judged is not None else set()
            past = [each for each in versions if each.name != self.current_name()]
            removed = []
            for version in past[: max(0, len(past) - keep)]:
                if version.name not in stays:
                    self._remove(version.folder)
                    removed.append(version.name)
            return removed

    def _written(self, folders: Mapping[str, Path], lineage: Lineage, config: str) -> Path:
        for leftover in self.path.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(leftover)
        name = self._next_name()
        building = self.path / f"{_UNFINISHED}{name}"
        for step, source in folders.items():
            for path in files_below(source):
                if path.name != DONE_NAME:
                    share_file(path, building / step / path.relative_to(source))
        lineage = lineage.as_version(name)
        atomic_write_json(building / LINEAGE, asdict(lineage))
        atomic_write_text(building / CONFIG, config)
        atomic_write_text(building / CARD, version_card(lineage, tuple(folders)))
        check_kept(write_done(building, lineage.digest, {"version": name}), folders)
        for place, _, _ in os.walk(building):
            _fsync(Path(place))
        os.rename(building, self.path / name)
        _fsync(self.path)
        return self.path / name

    def _next_name(self) -> str:
        """One more than there ever was: a number is not used again after its version went."""
        used = [int(each.version) for each in self.history() if each.version.isdigit()]
        used += [int(path.name) for path in self.path.glob("[0-9]*") if path.name.isdigit()]
        return f"{max(used, default=0) + 1:04d}"

    def _sound(self, name: str) -> Version:
        version = self.version(name)
        damaged = _damage(version)
        if damaged:
            raise MissingModelError(
                f"{version.folder / damaged[0]}: damaged, its bytes are not those that were "
                "registered; choose another version"
            )
        return version

    def _switch(self, version: Version, event: str, why: str, gate: list[dict[str, str]]) -> None:
        """First the link, then the history: `_way` mends what a crash between the two leaves."""
        before = self.current_name()
        fresh = self.path / f".{_CURRENT}.{os.getpid()}"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(version.name)
        os.replace(fresh, self.path / _CURRENT)
        _fsync(self.path)
        self._note(event, version.name, why=why, gate=gate, previous=before)

    def _way(self) -> list[str]:
        """The versions that were current, one on top of the other; the last is current now."""
        way: list[str] = []
        for each in self.history():
            if each.event == PROMOTED and way[-1:] != [each.version]:
                way.append(each.version)
            elif each.event == ROLLED_BACK:
                way = _up_to(way, each.version)
        current = self.current_name()
        if current and way[-1:] != [current]:
            way = _up_to(way, current)
        there = {current, *(version.name for version in self.versions())}
        return [name for name in way if name in there]

    def _remove(self, folder: Path) -> None:
        """Take away the mark first, so that no half removed version is taken for one."""
        (folder / DONE_NAME).unlink()
        shutil.rmtree(folder)
        self._note(REMOVED, folder.name)

    def _note(self, event: str, version: str, **more: Any) -> None:
        told = Event(at=utc_now(), event=event, version=version, **more)
        line = json.dumps(asdict(told), ensure_ascii=False, sort_keys=True)
        with open(self.path / "history.jsonl", "ab+") as stream:
            if stream.tell():
                stream.seek(-1, os.SEEK_END)
                cut = stream.read(1) != b"\n"  # by a crash
                stream.write(b"\n" if cut else b"")
            stream.write(line.encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / ".lock", "a", encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def _up_to(way: list[str], version: str) -> list[str]:
    """The way as it was when that version was current; a new one goes on top."""
    if version in way:
        return way[: len(way) - way[::-1].index(version)]
    return [*way, version]


def _damage(version: Version) -> list[str]:
    """Names of its files whose bytes are no longer those that were registered; reads them all."""
    done = read_done(version.folder)
    return [DONE_NAME] if done is None else damaged_files(version.folder, done)


def _fsync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
