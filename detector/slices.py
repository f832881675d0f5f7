"""A list of photos cut into slices, each of which becomes one shard."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from storage.records import ImageSource, Quarantined
from storage.region_slices import SliceKey, slice_key
from storage.seen import SeenKeys


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A stretch of the list of photos.

    photos:   those to be seen, in the order of the list
    repeated: those whose id came before, here or in an earlier slice
    """

    key: SliceKey
    photos: tuple[ImageSource, ...]
    repeated: tuple[Quarantined, ...]

    def __len__(self) -> int:
        return len(self.photos) + len(self.repeated)


class Slices(Sequence[Slice]):
    """All slices of a list; one is made when it is asked for.

    All processes that cut the same list cut it alike. What is kept is where ids are repeated.
    """

    def __init__(self, sources: Sequence[ImageSource], rows_per_shard: int) -> None:
        """Look through the list once.

        Args:
            sources: The photos; of several with one id the first counts.
            rows_per_shard: Photos in a slice; the last may have fewer.
        """
        self._sources = sources
        self._rows = rows_per_shard
        seen = SeenKeys()
        self._repeated = {
            number for number, source in enumerate(sources) if not seen.add(source.image_id)
        }

    @property
    def num_photos(self) -> int:
        """In all slices."""
        return len(self._sources)

    def __len__(self) -> int:
        return -(-len(self._sources) // self._rows)

    @overload
    def __getitem__(self, number: int) -> Slice: ...
    @overload
    def __getitem__(self, number: slice) -> list[Slice]: ...
    def __getitem__(self, number: int | slice) -> Slice | list[Slice]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        place = range(len(self))[number]
        first = place * self._rows
        stretch = self._sources[first : first + self._rows]
        photos, repeated = [], []
        for at, source in enumerate(stretch, first):
            if at in self._repeated:
                repeated.append(_repeated(source))
            else:
                photos.append(source)
        key = slice_key(place, (source.image_id for source in stretch))
        return Slice(key=key, photos=tuple(photos), repeated=tuple(repeated))


def _repeated(source: ImageSource) -> Quarantined:
    """A second photo under an id that was there already."""
    return Quarantined(
        image_id=source.image_id,
        reason="duplicate-id",
        detail=f"{source.place}: image id {source.image_id!r} came before; rename one of the files",
    )
