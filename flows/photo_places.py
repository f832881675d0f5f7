"""The collections of `data.images` with the places where they lie on this machine."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from flows.data import Data, PhotoCollection
from flows.stages.list_images import Reading
from storage.errors import MissingFileError, StorageError
from storage.photo_sources.collection import Collection, kind_of
from storage.photo_sources.dataset_yaml import is_dataset_yaml, read_dataset_yaml
from storage.photo_sources.folder import matching, state_of

Reference = str | Path
PlaceOf = Callable[[str, str], Reference]
"""Path and key of the configuration -> the file, or the output of a step that makes it."""

_PATTERN = frozenset("*?[")
_NUMBERS = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_FILES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """One collection.

    place:   folder or file, None where it is read from its URL
    listing: the file that says which photos count, where there is one
    sizes:   of a TSV
    """

    reading: Reading
    place: Reference | None
    listing: Reference | None = None
    sizes: Reference | None = None

    def collection(self) -> Collection:
        """As it is read; all its files are there."""
        place = self.place if self.place is not None else self.reading.url
        return self.reading.collection(
            Path(place) if self.place is not None else str(place),
            listing=None if self.listing is None else Path(self.listing),
            sizes=None if self.sizes is None else Path(self.sizes),
        )


def placed_collections(data: Data, place_of: PlaceOf) -> Iterator[Placed]:
    """Every collection; a pattern may stand for several.

    Args:
        data: of the configuration.
        place_of: gives what lies at a path.

    Raises:
        MissingFileError: A pattern matches nothing, or something is not there.
        StorageError: It is nothing that photos could be read from.
        SourceError: A store does not answer.
    """
    for at in range(len(data.images)):
        yield from placed_entry(data, at, place_of)


def placed_entry(data: Data, at: int, place_of: PlaceOf) -> Iterator[Placed]:
    """The collections of one entry of `data.images`, by its number. Raises as above."""
    each = data.images[at]
    for path in numbered(each.path):
        yield from _placed(data, replace(each, path=path), f"data.images.{at}", place_of)


def numbered(path: str) -> list[str]:
    """The paths that `train-{000..012}.tar` stands for, as WebDataset writes it; others as is.

    Raises:
        StorageError: They are too many.
    """
    found = _NUMBERS.search(path)
    if found is None:
        return [path]
    first, last = int(found[1]), int(found[2])
    if last - first >= _MOST_FILES:
        raise StorageError(f"{path}: stands for more than {_MOST_FILES} files")
    head, tail, width = path[: found.start()], path[found.end() :], len(found[1])
    return [f"{head}{number:0{width}d}{tail}" for number in range(first, last + 1)]


def _placed(data: Data, each: PhotoCollection, key: str, place_of: PlaceOf) -> Iterator[Placed]:
    listing = place_of(each.list, f"{key}.list") if each.list else None
    sizes = place_of(each.sizes, f"{key}.sizes") if each.sizes else None
    if is_url(each.path):
        for url in matching(each.path) if "*" in each.path else [each.path]:
            reading = _reading(each, url=url, state=state_of(url))
            yield Placed(reading=reading, place=None, listing=listing, sizes=sizes)
        return
    for place in _places(data, each, f"{key}.path", place_of):
        reading = _reading(each)
        if each.kind in ("", "tsv") and isinstance(place, Path) and is_dataset_yaml(place):
            files = read_dataset_yaml(place)
            yield Placed(
                reading=replace(reading, kind="tsv"),
                place=files.images,
                listing=listing or files.lines,
                sizes=sizes or files.sizes,
            )
        elif listing is None and _is_listing(place, each):
            assert isinstance(place, Path)
            yield Placed(reading=reading, place=place.parent, listing=place)
        else:
            yield Placed(reading=reading, place=place, listing=listing, sizes=sizes)


def is_url(path: str) -> bool:
    """Whether a path of the configuration is a URL."""
    return "://" in path


def _reading(each: PhotoCollection, *, url: str = "", state: str = "") -> Reading:
    return Reading(
        namespace=each.namespace,
        kind=each.kind,
        photo_column=each.photo_column,
        id_column=each.id_column,
        url=url,
        state=state,
    )


def _places(data: Data, each: PhotoCollection, key: str, place_of: PlaceOf) -> Iterator[Reference]:
    if not _PATTERN & set(each.path) or isinstance(place_of(".", key), str):
        yield place_of(each.path, key)
        return
    found = sorted(data.place().glob(each.path))
    if not found:
        raise MissingFileError(f"{data.place() / each.path}: matches nothing ({key})")
    yield from found


def _is_listing(place: Reference, each: PhotoCollection) -> bool:
    """Whether a path names a list itself, whose photos lie beside it."""
    if each.kind in ("list", "coco"):
        return isinstance(place, Path)
    is_file = isinstance(place, Path) and place.is_file()
    return is_file and not each.kind and kind_of(Path(place)) in ("list", "coco")
