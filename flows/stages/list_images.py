"""Stage: collections of photos -> one list of photos with the ids that annotations join on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from flows.photos import write_photos
from flows.progress import SILENT, Progress
from storage.errors import MissingFileError
from storage.photo_sources.collection import Collection, Kind, photos_in
from storage.quarantine import (
    QUARANTINE_NAME,
    QuarantineWriter,
    quarantine_writer,
    read_quarantine,
)
from storage.records import ImageSource, Quarantined
from storage.seen import SeenKeys

VERSION = 2
_TOLD_EVERY = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How one collection is read; as `flows.data.PhotoCollection`.

    url:   where it lies, "" on this machine
    state: digest of what the store there said of its files when the run was planned
    """

    namespace: str = ""
    kind: Kind | Literal[""] = ""
    photo_column: str = ""
    id_column: str = ""
    url: str = ""
    state: str = ""

    def collection(
        self, place: Path | str, listing: Path | None = None, sizes: Path | None = None
    ) -> Collection:
        """The collection as it lies there."""
        return Collection(
            place=place,
            namespace=self.namespace,
            kind=self.kind,
            listing=listing,
            sizes=sizes,
            photo_column=self.photo_column,
            id_column=self.id_column,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """collections: by their numbers."""

    collections: Mapping[str, Reading]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """All by the number of a collection.

    photos:   folders, or files that hold photos; none for what is read from a URL
    listings: which photos of a folder count
    sizes:    of TSVs
    """

    photos: Mapping[str, Path] = field(default_factory=dict)
    listings: Mapping[str, Path] = field(default_factory=dict)
    sizes: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    images: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    num_in: int
    num_out: int
    num_quarantined: int


def run(config: Config, inputs: Inputs, outputs: Outputs, progress: Progress = SILENT) -> Summary:
    """List every photo; the same id twice keeps the first and quarantines the others.

    Photos go to the list as they are found; what is kept of each is a digest of its id.
    """
    found = collections(config, inputs)
    outputs.images.mkdir(parents=True, exist_ok=True)
    dropped = outputs.images.parent / QUARANTINE_NAME
    with quarantine_writer(dropped) as aside:
        sieve = _Sieve(aside, progress)
        num_out = write_photos(
            outputs.images,
            {number: sieve.photos(collection) for number, collection in found.items()},
            inputs.photos,
        )
        num_quarantined = aside.num_entries
    if num_out == 0:
        places = ", ".join(str(each.listing or each.place) for each in found.values())
        entries = read_quarantine(dropped)
        told = f": {entries[0].detail}; {len(entries)} set aside, see {dropped}" if entries else ""
        raise MissingFileError(f"no photo found in {places}{told}")
    return Summary(
        num_in=num_out + num_quarantined, num_out=num_out, num_quarantined=num_quarantined
    )


def collections(config: Config, inputs: Inputs) -> dict[str, Collection]:
    """Every collection with its files, by its number."""
    return {
        number: reading.collection(
            reading.url or inputs.photos[number],
            listing=inputs.listings.get(number),
            sizes=inputs.sizes.get(number),
        )
        for number, reading in config.collections.items()
    }


class _Sieve:
    """Lets every photo through once."""

    def __init__(self, aside: QuarantineWriter, progress: Progress) -> None:
        self._aside = aside
        self._progress = progress
        self._seen = SeenKeys()

    def photos(self, collection: Collection) -> Iterator[ImageSource]:
        """The photos of a collection whose id did not come before."""
        for found in photos_in(collection):
            if isinstance(found, Quarantined):
                self._aside.add(found)
            elif self._seen.add(found.image_id):
                if len(self._seen) % _TOLD_EVERY == 0:
                    self._progress.at(len(self._seen), unit="photos")
                yield found
            else:
                detail = f"{found.place}: another photo has the same id {found.image_id!r}"
                self._aside.add(
                    Quarantined(image_id=found.image_id, reason="duplicate-id", detail=detail)
                )
