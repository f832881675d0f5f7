"""What a run learns from, as digests: photos, annotations, word lists; and what became of them.

<run>/dataset.json   digests as the latest finished run took them, so that new data is noticed
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from flows.config import RunConfig
from flows.digests import DigestBook, changed_files, counted, listings_of, read_listing
from flows.identity import config_as_json, outside_paths
from flows.pipeline import plan_of
from flows.plan import Plan, Step
from flows.run_folder import RunFolder
from storage.artifacts import atomic_write_json

FILE_NAME = "dataset.json"
MODELS = frozenset({"detector", "model", "start"})
"""Inputs from outside that are models, not data."""
RENDERING = "render_scenes"
LISTING = "list_images"
COLLECTING = "collect_annotations"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetDigest:
    """The data of a run.

    photos:      number of a photo folder -> digest of its names and contents
    annotations: `number.argument` of an annotation source -> digest of its file
    others:      `step.key` of any other file that is no model (dictionary, vocabulary) -> digest;
                 rendered scenes count by their settings
    shelf:       where it is written what the photo folders held (`flows.digests`)
    """

    photos: Mapping[str, str]
    annotations: Mapping[str, str]
    others: Mapping[str, str]
    shelf: Path | None = field(default=None, compare=False)

    @property
    def total(self) -> str:
        """Who all of it is."""
        return sha256(json.dumps(self._digests(), sort_keys=True).encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """For `dataset.json`."""
        return {**self._digests(), "total": self.total}

    def _digests(self) -> dict[str, Any]:
        return {
            "photos": dict(self.photos),
            "annotations": dict(self.annotations),
            "others": dict(self.others),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetDifference:
    """What became of the data; all counts are of photo files.

    added, removed, changed: by name
    annotations, others:     keys of files that came, went or changed
    unlisted:                photo folders that changed, nobody knows how
    """

    added: int = 0
    removed: int = 0
    changed: int = 0
    annotations: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether the data is the same."""
        return self == DatasetDifference()

    def counts(self) -> dict[str, int]:
        """Plain numbers, for an event or a table."""
        return {
            name: value if isinstance(value, int) else len(value)
            for name, value in asdict(self).items()
        }

    def __str__(self) -> str:
        """In words, one line."""
        said = [
            f"{counted(count, 'photo')} {what}"
            for count, what in (
                (self.added, "added"),
                (self.removed, "removed"),
                (self.changed, "changed"),
            )
            if count
        ]
        said += [f"photo folder {number} changed" for number in self.unlisted]
        if self.annotations:
            said.append(f"annotations changed: {', '.join(self.annotations)}")
        if self.others:
            said.append(f"changed: {', '.join(self.others)}")
        return ", ".join(said) or "no new data"


def digest_of(config: RunConfig, run: RunFolder) -> DatasetDigest:
    """The data as it lies now; by file times where the run has seen it before.

    Raises:
        MissingFileError: A photo folder or an annotation file is not there.
        ConfigError: One cannot be read.
    """
    book = DigestBook(run.digests)
    digest = digest_of_plan(plan_of(config), run, book)
    book.save()
    return digest


def digest_of_plan(plan: Plan, run: RunFolder, book: DigestBook) -> DatasetDigest:
    """The same for a plan, from a book that may have looked already. Raises as `digest_of`."""
    found: dict[str, dict[str, str]] = {"photos": {}, "annotations": {}, "others": {}}
    for step in plan.steps:
        if step.stage == RENDERING:
            text = json.dumps(config_as_json(step.config), sort_keys=True)
            found["others"][step.name] = sha256(text.encode()).hexdigest()
        for key, path in _data_of(step):
            kind, name = _kind(step, key)
            found[kind][name] = book.digest(path, f"{step.name}.{key}")
    return DatasetDigest(**found, shelf=listings_of(run.digests))


def read_digest(run: RunFolder) -> DatasetDigest | None:
    """The data of the latest finished run; None where there is none."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads((run.path / FILE_NAME).read_text(encoding="utf-8"))
        return DatasetDigest(
            photos=dict(content["photos"]),
            annotations=dict(content["annotations"]),
            others=dict(content["others"]),
            shelf=listings_of(run.digests),
        )
    return None


def write_digest(run: RunFolder, digest: DatasetDigest) -> None:
    """Keep the data that a finished run stands on, where it is another."""
    if read_digest(run) != digest:
        atomic_write_json(run.path / FILE_NAME, digest.as_json())


def difference(old: DatasetDigest | None, new: DatasetDigest) -> DatasetDifference:
    """What became of the data since; from nothing (`None`), everything was added."""
    if old is None:
        old = DatasetDigest(photos={}, annotations={}, others={})
    counts = {"added": 0, "removed": 0, "changed": 0}
    unlisted: list[str] = []
    for number in _changed_keys(old.photos, new.photos):
        files = changed_files(_held(old, number), _held(new, number))
        if files is None:
            unlisted.append(number)
            continue
        for kind, names in files.items():
            counts[kind] += len(names)
    return DatasetDifference(
        **counts,
        annotations=_changed_keys(old.annotations, new.annotations),
        others=_changed_keys(old.others, new.others),
        unlisted=tuple(unlisted),
    )


def _held(digest: DatasetDigest, number: str) -> Mapping[str, str] | None:
    mark = digest.photos.get(number)
    if mark is None:
        return {}
    listing = None if digest.shelf is None else read_listing(digest.shelf, mark)
    return None if listing is None else listing.digests


def _changed_keys(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(sorted(key for key in {*old, *new} if old.get(key) != new.get(key)))


def _data_of(step: Step) -> Iterator[tuple[str, Path]]:
    """Files and folders that a step takes from outside, without models."""
    yield from outside_paths(step.config).items()
    for key, place in step.inputs.items():
        if isinstance(place, Path) and key not in MODELS:
            yield key, place


def _kind(step: Step, key: str) -> tuple[str, str]:
    """Photos, annotations or other, and the name there."""
    group, _, member = key.partition(":")
    if group == "photos":
        return "photos", member
    if step.stage == COLLECTING and group == "files":
        return "annotations", member
    return "others", f"{step.name}.{key}"
