"""Documents of pretraining: captions with tags, questions with answers; and how they are mixed."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from oscar_core.errors import TaskError
from oscar_core.task import Group, Phase
from oscar_core.tasks.pretraining.documents import CAPTION, Documents, near_tags
from oscar_core.tasks.pretraining.records import Config, Corpus, Example, FirstKind, Negatives
from oscar_core.views import Views
from storage.library import Library

_Number = TypeVar("_Number", bound=np.generic)
_Chosen = NDArray[np.int32]
"""Indices of examples, rising."""
_Rising = range | NDArray[np.int32]


class Examples(Sequence[Example]):
    """One example a document from `first` on, made when asked for.

    is_extra: (examples,) bool, whether it belongs to the extra set; None without one
    """

    def __init__(
        self, documents: Documents, views: Views, first: int, main: Corpus, extra: Corpus | None
    ) -> None:
        self.documents = documents
        self.first = first
        self._views = views
        self._main = main
        self._extra = extra
        self.is_extra: NDArray[np.bool_] | None = None
        if extra is not None:
            is_extra = np.zeros(len(documents), np.bool_)
            is_extra[np.asarray(extra.members)] = True
            self.is_extra = is_extra[first:]

    def __len__(self) -> int:
        return len(self.documents) - self.first

    def of(self, column: NDArray[_Number]) -> NDArray[_Number]:
        """A column of the documents for the examples."""
        return column[self.first :]

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Example]: ...

    def __getitem__(self, index: int | slice) -> Example | Sequence[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        corpus = self._main
        if self._extra is not None and self.is_extra is not None and self.is_extra[place]:
            corpus = self._extra
        return Example(
            number=self.first + place,
            document=self.documents[self.first + place],
            views=self._views,
            corpus=corpus,
        )


def texts(config: Config, library: Library) -> Iterator[str]:
    """Captions, questions, answers and tags of the training split."""
    for language in config.languages:
        for caption in library.captions("train", language):
            yield caption.text
        for question in library.questions("train", language):
            yield question.question
            yield from question.answers
    for image_id in library.image_ids("train"):
        said = library.tags_of(image_id)
        yield from said.tags
        yield from (word for words in said.attributes for word in words)


def answers(config: Config, library: Library) -> tuple[str, ...]:
    """None: answers are words here."""
    return ()


def examples(config: Config, library: Library, split: str) -> Examples:
    """One example a caption and one a question, in the stored order; questions alone to predict.

    Raises:
        TaskError: The split has neither, a source is named that says nothing, or wrong answers
            are asked for where there are none.
    """
    views = Views(library, config.view)
    documents = Documents(config, library, views, split)
    if not len(documents):
        raise TaskError(
            f"pretraining: no caption or question of split {split!r} "
            f"in {' or '.join(config.languages)}"
        )
    main: _Rising = range(len(documents))
    extra = None
    if config.extra is not None:
        is_extra = _is_of(config.extra.sources, documents)
        beside, main = _rising(np.flatnonzero(is_extra)), _rising(np.flatnonzero(~is_extra))
        extra = _corpus(config, documents, beside, config.extra.negatives)
    own = _corpus(config, documents, main, config.negatives)
    if split == "train":
        for corpus in filter(None, (own, extra)):
            _check_answers(config, corpus)
    first = 0 if split == "train" else documents.num_captions
    return Examples(documents, views, first, own, extra)


def _is_of(sources: Sequence[str], documents: Documents) -> NDArray[np.bool_]:
    is_named = np.array([name in sources for name in documents.sources], np.bool_)
    chosen: NDArray[np.bool_] = is_named[documents.source_numbers]
    return chosen


def _rising(numbers: NDArray[np.int64]) -> _Rising:
    """Rising numbers, as a range where none is left out: that takes no memory."""
    if len(numbers) and int(numbers[-1]) - int(numbers[0]) == len(numbers) - 1:
        return range(int(numbers[0]), int(numbers[-1]) + 1)
    return numbers.astype(np.int32)


def _corpus(config: Config, documents: Documents, members: _Rising, negatives: Negatives) -> Corpus:
    num_told = bisect_left(members, documents.num_captions)
    words: frozenset[str] = frozenset()
    if config.label_mask is not None:
        words = documents.label_words(members)
    return Corpus(
        documents=documents,
        image_numbers=documents.image_numbers,
        members=members,
        answered=members[num_told:],
        negatives=negatives,
        near=near_tags(documents, members) if config.near_negatives > 0 else {},
        label_words=words,
    )


def _check_answers(config: Config, corpus: Corpus) -> None:
    """Q18: the original crashes at the first wrong answer."""
    can_be_wrong = config.mismatch > 0 and config.wrong_first < config.mismatch
    if corpus.negatives == "answers" and can_be_wrong and not len(corpus.answered):
        raise TaskError(
            "pretraining: negatives 'answers' need questions with answers and there are none; "
            "use 'second' or 'any'"
        )


def phases(config: Config, examples: Examples) -> tuple[Phase, ...]:
    """The mixture, after the opening phase of one kind of question if there is one.

    Raises:
        TaskError: The opening phase has no question to ask, or the extra set is empty.
    """
    is_aside = np.zeros(len(examples), np.bool_)
    opening: tuple[Phase, ...] = ()
    if config.first is not None:
        is_aside = _last_images(examples, config.first.num_probe_images)
        opening = (_opening(config.first, examples, is_aside),)
    left = np.flatnonzero(~is_aside).astype(np.int32)
    return (*opening, Phase(name="mixture", groups=tuple(_groups(config, examples, left))))


def _last_images(examples: Examples, num: int) -> NDArray[np.bool_]:
    """Which examples show one of the images that come up last."""
    images = examples.of(examples.documents.image_numbers)
    _, firsts = np.unique(images, return_index=True)
    aside = images[np.sort(firsts)[len(firsts) - min(num, len(firsts)) :]]
    return np.isin(images, aside)


def _opening(first: FirstKind, examples: Examples, is_aside: NDArray[np.bool_]) -> Phase:
    documents = examples.documents
    is_kind = np.array([kind == first.question_type for kind in documents.kinds], np.bool_)
    is_asked = is_kind[examples.of(documents.kind_numbers)]
    kept = np.flatnonzero(is_asked & ~is_aside)
    if not len(kept) or len(kept) == int(is_asked.sum()):
        raise TaskError(f"pretraining: no questions of type {first.question_type!r} to begin with")
    return Phase(
        name=first.question_type,
        groups=(Group(indices=kept),),
        max_steps=first.max_steps,
        goal=first.goal,
        check_every=first.check_every,
        probe=np.flatnonzero(is_asked & is_aside).tolist(),
    )


def _groups(config: Config, examples: Examples, indices: _Chosen) -> Iterator[Group]:
    """The mixture: the main set by kinds and source weights, beside the extra set."""
    if config.extra is None or examples.is_extra is None:
        yield from _main_groups(config, examples, indices, 1.0)
        return
    is_extra = examples.is_extra[indices]
    beside, main = indices[is_extra], indices[~is_extra]
    if not len(beside) or not len(main):
        raise TaskError("pretraining: the extra set holds no text, or all; check extra.sources")
    yield from _main_groups(config, examples, main, 1.0 - config.extra.share)
    for group in _by_weight(config, examples, beside, config.extra.share):
        yield replace(group, pool=1, loss_weight=config.extra.loss_weight)


def _main_groups(
    config: Config, examples: Examples, indices: _Chosen, share: float
) -> Iterator[Group]:
    first_question = examples.documents.num_captions - examples.first
    told, asked = np.split(indices, [int(np.searchsorted(indices, first_question))])
    if config.question_share is None or not len(asked) or not len(told):
        yield from _by_weight(config, examples, indices, share)
        return
    if config.question_share < 1:
        yield from _by_weight(config, examples, told, share * (1 - config.question_share))
    kinds = examples.of(examples.documents.kind_numbers)[asked]
    if not config.balances_kinds:
        kinds = np.zeros_like(kinds)
    each = share * config.question_share / len(np.unique(kinds))
    if each > 0:
        for kind in dict.fromkeys(kinds.tolist()):
            yield from _by_weight(config, examples, asked[kinds == kind], each)


def _by_weight(
    config: Config, examples: Examples, indices: _Chosen, share: float
) -> Iterator[Group]:
    """Sources of equal weight together; each text of weight 2 is drawn as often as two of 1."""
    documents = examples.documents
    weights = [config.sources.get(name, 1.0) for name in documents.sources]
    distinct, level_of = np.unique(weights, return_inverse=True)
    levels = level_of.astype(np.int8)[examples.of(documents.source_numbers)[indices]]
    sizes = np.bincount(levels, minlength=len(distinct))
    total = float((distinct * sizes).sum())
    for level in np.flatnonzero(sizes):
        chosen = indices[levels == level]
        yield Group(
            indices=_rising(chosen),
            share=share * float(distinct[level] * sizes[level]) / total,
            places=_places(config, examples, chosen),
            window=config.window,
        )


def _places(config: Config, examples: Examples, indices: _Chosen) -> NDArray[Any] | None:
    """Row group of each example; None where one window holds them all."""
    documents = examples.documents
    if documents.places is None or config.window == 0:
        return None
    if len(np.unique(documents.places)) <= config.window:
        return None
    narrow = documents.places.astype(np.min_scalar_type(int(documents.places.max())))
    return narrow[examples.of(documents.image_numbers)[indices]]


__all__ = ["CAPTION", "Examples", "answers", "examples", "phases", "texts"]
