"""Folders of region shards that a run starts from: `data.regions`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from storage.box_numbers import NUM_BOX_NUMBERS
from storage.errors import MissingFileError, StorageError
from storage.manifest import MANIFEST_NAME, Manifest, read_manifest
from storage.places import Place
from storage.quarantine import QUARANTINE_NAME, read_quarantine
from storage.records import INCLUDED, WIDTH_FIRST, Quarantined
from storage.region_shards import KIND, RegionReader
from storage.seen import SeenKeys

REGIONS = "regions"
"""Where `import-regions` and the step `detect` put shards inside their folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRegions:
    """One folder: of shards, or of shards in `regions` and what was set aside beside them.

    folder: of the shards themselves
    aside:  list of what was set aside when they were made; None where there is none
    ids:    of all images, in the order of the shards
    """

    folder: Path
    aside: Path | None
    manifest: Manifest
    ids: Sequence[str]

    @property
    def input_width(self) -> int:
        """Numbers of a region as a model reads it."""
        settings = self.manifest.settings
        more = 0 if settings["geometry"] == INCLUDED else NUM_BOX_NUMBERS
        return int(settings["feature_width"]) + more

    def quarantined(self) -> list[Quarantined]:
        """What was set aside when the shards were made."""
        return [] if self.aside is None else read_quarantine(self.aside)


def open_stored(folders: Sequence[Path]) -> list[StoredRegions]:
    """Open folders that are to be one; manifests and ids are read, sizes compared.

    Raises:
        MissingFileError: There are no shards, or they are incomplete.
        StorageError: They differ in what they say of themselves, or hold one image twice.
    """
    found = [_opened(folder) for folder in folders]
    first = found[0]
    for other in found[1:]:
        told, wanted = other.manifest.settings, first.manifest.settings
        names = [name for name in {**wanted, **told} if wanted.get(name) != told.get(name)]
        if names:
            said = ", ".join(
                f"{name} {told.get(name, '')!r} and {wanted.get(name, '')!r}" for name in names
            )
            raise StorageError(
                f"{other.folder}: {said} of {first.folder}; regions of one run must be alike"
            )
    _check_distinct(found)
    return found


def shards_in(folder: Path) -> Path | None:
    """Where the finished shards of a folder lie: in `regions` inside, or in itself."""
    places = (folder / REGIONS, folder)
    return next((place for place in places if (place / MANIFEST_NAME).is_file()), None)


def check_order(folder: Path, geometry: str) -> None:
    """Refuse an order of box numbers that was set, where stored regions have another.

    Raises:
        StorageError: They have.
    """
    shards = shards_in(folder)
    if shards is None or geometry == WIDTH_FIRST:  # the default, which nobody need have set
        return
    held = read_manifest(Place(shards), KIND).settings.get("geometry")
    if held != geometry:
        raise StorageError(
            f"{folder}: regions that are there stay {held}, detect.geometry={geometry} cannot turn "
            "them; leave it out"
        )


def _opened(folder: Path) -> StoredRegions:
    shards = shards_in(folder)
    if shards is None:
        raise MissingFileError(
            f"{folder}: no {MANIFEST_NAME} of region shards in it or in {REGIONS}/; name a folder "
            "that import-regions or the step detect has finished"
        )
    reader = RegionReader(shards, read_all=False)
    aside = folder / QUARANTINE_NAME
    return StoredRegions(
        folder=shards,
        aside=aside if aside.is_file() else None,
        manifest=reader.manifest,
        ids=reader.ids,
    )


def _check_distinct(found: Sequence[StoredRegions]) -> None:
    seen = SeenKeys()
    for each in found:
        for image_id in each.ids:
            if not seen.add(image_id):
                raise StorageError(
                    f"{each.folder}: image {image_id!r} is in another folder of data.regions, too; "
                    "leave one out, or import with --namespace"
                )
