"""Puts a text of another image in the place of one of an example's own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from oscar_core.dice import Dice
from oscar_core.tasks.pretraining.documents import tag_key
from oscar_core.tasks.pretraining.records import (
    MATCHED,
    WRONG_FIRST,
    WRONG_SECOND,
    Config,
    Corpus,
    Document,
    Example,
)

_TRIES = 10
_LONGEST_WALK, _MOST_TEXTS = 1_000, 50
"""Documents and, of other images, texts that are looked at where ten draws found nothing."""
_Pool = Sequence[int] | NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Pairing:
    """Two texts that are shown with an image.

    kind:       MATCHED, WRONG_SECOND or WRONG_FIRST
    is_foreign: one of them comes from another image
    """

    document: Document
    kind: int = MATCHED
    is_foreign: bool = False


@dataclass(frozen=True, slots=True)
class _Found:
    """A text of another document."""

    text: str
    is_foreign: bool


def perhaps_wrong(config: Config, example: Example, dice: Dice) -> Pairing:
    """The document as it is, or with a first or second text that belongs to another image.

    Source: `oscar/datasets/oscar_tsv.py:OscarTSVDataset.random_sent`; specs/oscar.md 6, step 1.
    """
    right = example.document
    chance = dice.random()
    if chance > config.mismatch:
        return Pairing(right)
    if chance > config.wrong_first and _has_second(config, right):
        found = _Search(config, example, dice).second()
        if found is None:
            return Pairing(right)
        return Pairing(replace(right, second=found.text), WRONG_SECOND, found.is_foreign)
    found = _Search(config, example, dice).first()
    if found is None:
        return Pairing(right)
    return Pairing(replace(right, first=found.text), WRONG_FIRST, found.is_foreign)


def _has_second(config: Config, right: Document) -> bool:
    """Whether there is a second text to be wrong; Q12."""
    is_read = config.reads_second or config.compat.pollutes_unread_answers
    return is_read and bool(right.second)


class _Search:
    """Looks for a text of another image, for one example."""

    def __init__(self, config: Config, example: Example, dice: Dice) -> None:
        self._config = config
        self._compat = config.compat
        self._corpus: Corpus = example.corpus
        self._number = example.number
        self._right = example.document
        self._dice = dice

    def second(self) -> _Found | None:
        """A wrong second text."""
        from_answers = self._corpus.negatives == "answers"
        pool = self._corpus.answered if from_answers else self._corpus.members
        is_other = self._is_other_document
        if not (from_answers and self._compat.takes_own_answers):
            is_other = self._is_other_image
        return self._look(pool, is_other, self._second_of, self._is_second_wrong)

    def first(self) -> _Found | None:
        """A wrong first text; near ones where there are any."""
        near = self._config.near_negatives
        if near > 0.0 and not self._right.is_question and self._dice.random() < near:
            found = self._first_of(self._corpus.near.get(tag_key(self._right.second), ()))
            if found is not None:
                return found
        return self._first_of(self._corpus.members)

    def _first_of(self, pool: _Pool) -> _Found | None:
        if not len(pool):
            return None
        return self._look(
            pool, self._is_other_image, lambda found: found.first, self._is_first_wrong
        )

    def _look(
        self,
        pool: _Pool,
        is_other: Callable[[int], bool],
        text_of: Callable[[Document], str],
        is_wrong: Callable[[str], bool],
    ) -> _Found | None:
        """A text that is wrong here; None if none is found."""
        number = self._number
        for _ in range(_TRIES):
            number = int(pool[self._dice.below(len(pool))])
            if is_other(number):
                text = text_of(self._corpus.documents[number])
                if is_wrong(text):
                    return _Found(text, self._is_other_image(number))
        if self._compat.keeps_same_image:
            text = text_of(self._corpus.documents[number])
            return _Found(text, self._is_other_image(number)) if is_wrong(text) else None
        return self._walk(pool, text_of, is_wrong)

    def _walk(
        self, pool: _Pool, text_of: Callable[[Document], str], is_wrong: Callable[[str], bool]
    ) -> _Found | None:
        """The same where most documents are of this image or say the same: one after another."""
        start = self._dice.below(len(pool))
        steps = range(start, start + min(len(pool), _LONGEST_WALK))
        others = filter(self._is_other_image, (int(pool[step % len(pool)]) for step in steps))
        for number in islice(others, _MOST_TEXTS):
            text = text_of(self._corpus.documents[number])
            if is_wrong(text):
                return _Found(text, is_foreign=True)
        return None

    def _is_other_image(self, number: int) -> bool:
        images = self._corpus.image_numbers
        return bool(images[number] != images[self._number])

    def _is_other_document(self, number: int) -> bool:
        return number != self._number

    def _second_of(self, found: Document) -> str:
        if self._corpus.negatives == "any" and self._dice.below(2) == 0:
            return found.first
        return found.second

    def _is_second_wrong(self, text: str) -> bool:
        """The same words are not wrong, whosever they are (Q11)."""
        right = self._right.second
        return self._compat.keeps_equal_texts or (
            bool(text) and text != right and tag_key(text) != tag_key(right)
        )

    def _is_first_wrong(self, text: str) -> bool:
        """Q11 speaks of the second text alone; the original takes any first one, too."""
        return self._compat.keeps_equal_texts or text != self._right.first
