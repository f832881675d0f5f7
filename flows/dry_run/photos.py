"""Which photos a run would see, or whose regions it would take."""

import os
from pathlib import Path

from flows.config import RunConfig
from flows.dry_run.places import photo_collections
from flows.dry_run.records import Problems
from flows.dry_run.trainings import gigabytes
from flows.photo_places import is_url
from flows.stored_regions import StoredRegions, check_order, open_stored
from storage.errors import StorageError
from storage.photo_sources.collection import Collection, photos_in
from storage.records import ImageSource


def stored_regions(config: RunConfig, found: Problems, told: list[str]) -> list[StoredRegions]:
    """The regions that are there; what is wrong goes to `found`, what there is to `told`."""
    root = config.data.place()
    folders = [root / path for path in config.data.regions if (root / path).is_dir()]
    try:
        stored = open_stored(folders) if folders else []
    except StorageError as error:
        found.append(str(error))
        return []
    try:
        for folder in folders:
            check_order(folder, config.detect.geometry)
    except StorageError as error:
        found.append(str(error))
    for folder, each in zip(folders, stored, strict=True):
        aside = f", {num:,} set aside" if (num := len(each.quarantined())) else ""
        told.append(f"{folder}: regions of {len(each.ids):,} photos{aside}")
    return stored


def photos_of(config: RunConfig, found: Problems, told: list[str]) -> list[ImageSource]:
    """The photos there are, none twice; likewise told."""
    if config.render_scenes is not None or not config.data.place().is_dir():
        return []
    photos: dict[str, ImageSource] = {}
    for at, each in enumerate(config.data.images):
        if is_url(each.path):
            told.append(f"{each.path}: behind a URL, looked into when the run starts")
            continue
        try:
            for collection in photo_collections(config, at):
                try:
                    _look_into(collection, photos, found, told)
                except StorageError as error:  # the next one is looked into all the same
                    found.append(str(error))
        except StorageError as error:
            found.append(str(error))
    return list(photos.values())


def _look_into(
    collection: Collection, photos: dict[str, ImageSource], found: Problems, told: list[str]
) -> None:
    """Add the photos of a collection to those that are known."""
    num = num_aside = num_bytes = 0
    first = ""
    place = Path(collection.place)
    is_file = place.is_file()
    for each in photos_in(collection):
        if isinstance(each, ImageSource):
            num += 1
            num_bytes += 0 if is_file else os.stat(each.path).st_size
            photos[each.image_id] = each
        else:
            num_aside += 1
            first = first or f"; {each.detail}"
    aside = f", {num_aside:,} files set aside" if num_aside else ""
    if not num:
        named = collection.listing or place
        found.append(f"{named}: holds no photo (data.images){aside}{first}")
    size = gigabytes(place.stat().st_size if is_file else num_bytes)
    told.append(f"{collection.place}: {num:,} photos, {size}{aside}")
