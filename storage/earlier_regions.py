"""Regions of an earlier extraction, found again by the bytes of the photo."""

import dataclasses
import logging
from collections.abc import Container, Iterable
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import numpy as np

from storage.errors import StorageError
from storage.manifest import verify_shard
from storage.places import Place
from storage.records import ImageRegions
from storage.region_shards import RegionReader
from storage.region_slices import RegionSettings

_log = logging.getLogger(__name__)
_SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")


class EarlierRegions:
    """An earlier folder of shards; a photo whose bytes it knows need not be seen again.

    Every shard is read whole and compared with its checksum before a record of it is used; a
    damaged one counts as not there.
    """

    def __init__(self, reader: RegionReader, place: Place) -> None:
        self._reader = reader
        self._place = place
        self._is_sound: dict[str, bool] = {}

    @property
    def hashes(self) -> Container[str]:
        """Content hashes of all its photos."""
        return self._numbers

    @cached_property
    def _numbers(self) -> "_NumberByHash":
        return _NumberByHash(self._reader.hashes_in_order())

    def find(self, image_id: str, content_hash: str) -> ImageRegions | None:
        """The record of a photo of these bytes, under the given id; None if there is none."""
        known = self._record(image_id) if image_id in self._reader else None
        if known is not None and known.content_hash == content_hash:
            return known
        number = self._numbers.last(content_hash)
        known = self._record(self._reader.ids[number]) if number is not None else None
        return None if known is None else dataclasses.replace(known, image_id=image_id)

    def _record(self, image_id: str) -> ImageRegions | None:
        entry = self._reader.shard_of(image_id)
        if entry.file not in self._is_sound:
            try:
                verify_shard(self._place, entry)
                self._is_sound[entry.file] = True
            except StorageError as error:
                _log.warning("%s; its photos are seen again", error)
                self._is_sound[entry.file] = False
        return self._reader[image_id] if self._is_sound[entry.file] else None


class _NumberByHash(Container[str]):
    """Content hash -> number of the last image that has it, in 28 bytes each."""

    def __init__(self, hashes: Iterable[str]) -> None:
        digests = np.frombuffer(b"".join(map(_digest, hashes)), dtype=np.uint64).reshape(-1, 2)
        self._order = np.lexsort((digests[:, 1], digests[:, 0])).astype(np.int32)
        self._first = digests[self._order, 0]
        self._second = digests[self._order, 1]

    def __contains__(self, content_hash: object) -> bool:
        return self.last(str(content_hash)) is not None

    def last(self, content_hash: str) -> int | None:
        """The last number of that hash; None if there is none."""
        first, second = np.frombuffer(_digest(content_hash), dtype=np.uint64)
        low, high = (int(self._first.searchsorted(first, side)) for side in _SIDES)
        equal = np.flatnonzero(self._second[low:high] == second)
        return int(self._order[low + equal].max()) if len(equal) else None


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8"), digest_size=16).digest()


def open_earlier(place: str | Path, settings: RegionSettings) -> EarlierRegions | None:
    """An earlier folder, where its records are what this extraction would make.

    Args:
        place: a folder, or a URL of fsspec.
        settings: of the folder that is made now; any difference, and nothing is reused.

    Returns:
        None, said in the log, where it cannot serve.
    """
    try:
        reader = RegionReader(place, read_all=False)
    except StorageError as error:
        _log.warning("%s; nothing is taken from it", error)
        return None
    if dict(reader.manifest.settings) != settings.as_stamps():
        _log.info("%s: regions of another detector or other rules; nothing is taken", place)
        return None
    return EarlierRegions(reader, Place(place))
