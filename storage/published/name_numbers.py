"""Class and attribute numbers of published names: a label map's, or by first occurrence.

Letters: N objects of one image, K attribute slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.errors import RecordError
from storage.published.label_maps import BACKGROUND, NO_ATTRIBUTE, LabelMap, label_map_of
from storage.published.vinvl_predictions import PublishedObjects
from storage.records import ImageLabels

_MOST_NAMES = int(np.iinfo(np.int16).max)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedAttributes:
    """Attributes as a record keeps them.

    ids:    (N, K) int16    0 in empty slots
    scores: (N, K) float32  0 in empty slots
    names:  N tuples, one name per filled slot
    """

    ids: NDArray[np.int16]
    scores: NDArray[np.float32]
    names: tuple[tuple[str, ...], ...]


class NameNumbers:
    """Gives every name its number."""

    def __init__(self, label_map: LabelMap | None) -> None:
        """Take the numbers of a label map; without one, names are numbered as they come."""
        self._is_closed = label_map is not None
        known = label_map if label_map is not None else label_map_of(())
        self._class_ids = dict(known.class_ids)
        self._attribute_ids = dict(known.attribute_ids)

    @property
    def label_map(self) -> LabelMap:
        """All names so far, in the order of their numbers."""
        return label_map_of(self._class_ids, self._attribute_ids)

    def remember(self, labels: ImageLabels) -> None:
        """Take the names of a record that has its numbers already, in the order it got them.

        Raises:
            RecordError: The label map has no such name.
        """
        for names in labels.attribute_names:
            for name in names:
                self._number(name, self._attribute_ids, NO_ATTRIBUTE, "attribute")
        self.class_ids(labels.class_names)

    def class_ids(self, names: Sequence[str]) -> NDArray[np.int16]:
        """(N,) from 1 on.

        Raises:
            RecordError: The label map has no such class.
        """
        return np.array(
            [self._number(name, self._class_ids, BACKGROUND, "class") for name in names], np.int16
        )

    def attributes(self, objects: PublishedObjects) -> PublishedAttributes:
        """Attributes above a score of 0; the published rows name others in spare slots.

        Raises:
            RecordError: The label map has no such attribute.
        """
        num = len(objects.class_names)
        if objects.attribute_names is None or objects.attribute_scores is None:
            empty = np.zeros((num, 0), np.float32)
            return PublishedAttributes(ids=empty.astype(np.int16), scores=empty, names=((),) * num)
        ids = np.zeros(objects.attribute_scores.shape, np.int16)
        scores = np.zeros(ids.shape, np.float32)
        names = []
        for row, (said, given) in enumerate(
            zip(objects.attribute_names, objects.attribute_scores, strict=True)
        ):
            kept = [
                slot for slot, name in enumerate(said) if given[slot] > 0 and name != NO_ATTRIBUTE
            ]
            names.append(tuple(said[slot] for slot in kept))
            ids[row, : len(kept)] = [
                self._number(name, self._attribute_ids, NO_ATTRIBUTE, "attribute")
                for name in names[-1]
            ]
            scores[row, : len(kept)] = given[kept]
        return PublishedAttributes(ids=ids, scores=scores, names=tuple(names))

    def _number(self, name: str, numbers: dict[str, int], zero: str, family: str) -> int:
        number = numbers.get(name)
        if number is not None:
            return number
        if self._is_closed:
            raise RecordError(f"the label map has no {family} {name!r}")
        if name == zero or len(numbers) >= _MOST_NAMES:
            raise RecordError(f"{family} {name!r} cannot have a number")
        numbers[name] = len(numbers) + 1
        return numbers[name]
