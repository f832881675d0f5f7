"""Documents of pretraining: captions with tags, questions with answers; and how they are mixed."""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from oscar_core.errors import TaskError
from oscar_core.task import Group, Phase
from oscar_core.tasks.pretraining.documents import CAPTION, Documents, near_tags
from oscar_core.tasks.pretraining.records import Config, Corpus, Example, FirstKind, Negatives
from oscar_core.views import Views
from storage.library import Library


class Examples(Sequence[Example]):
    """One example a document, made when asked for.

    numbers: of the documents; int32
    """

    def __init__(
        self,
        documents: Documents,
        views: Views,
        numbers: NDArray[np.int32],
        main: Corpus,
        extra: Corpus | None,
    ) -> None:
        self.documents = documents
        self.numbers = numbers
        self._views = views
        self._main = main
        self._extra = extra
        self.is_extra = np.zeros(len(documents), np.bool_)
        if extra is not None:
            self.is_extra[np.asarray(extra.members)] = True

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Example]: ...

    def __getitem__(self, index: int | slice) -> Example | Sequence[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = int(self.numbers[index])
        of_extra = self._extra is not None and self.is_extra[number]
        return Example(
            number=number,
            document=self.documents[number],
            views=self._views,
            corpus=self._extra if of_extra and self._extra else self._main,
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
    everything = np.arange(len(documents), dtype=np.int32)
    is_extra = _of_extra(config, documents)
    main = _corpus(config, documents, everything[~is_extra], config.negatives)
    extra = None
    if config.extra is not None:
        extra = _corpus(config, documents, everything[is_extra], config.extra.negatives)
    shown = everything if split == "train" else everything[documents.is_question]
    if split == "train":
        for corpus in filter(None, (main, extra)):
            _check_answers(config, corpus)
    return Examples(documents, views, shown, main, extra)


def _of_extra(config: Config, documents: Documents) -> NDArray[np.bool_]:
    named = config.extra.sources if config.extra is not None else ()
    is_named = np.array([name in named for name in documents.sources], np.bool_)
    chosen: NDArray[np.bool_] = is_named[documents.source_numbers]
    return chosen


def _corpus(
    config: Config, documents: Documents, members: NDArray[np.int32], negatives: Negatives
) -> Corpus:
    words: frozenset[str] = frozenset()
    if config.label_mask is not None:
        words = documents.label_words(members)
    return Corpus(
        documents=documents,
        image_numbers=documents.image_numbers,
        members=members,
        answered=members[documents.is_question[members]],
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
    return (*opening, Phase(name="mixture", groups=_groups(config, examples, left)))


def _last_images(examples: Examples, num: int) -> NDArray[np.bool_]:
    """Which examples show one of the images that come up last."""
    images = examples.documents.image_numbers[examples.numbers]
    _, firsts = np.unique(images, return_index=True)
    aside = images[np.sort(firsts)[len(firsts) - min(num, len(firsts)) :]]
    return np.isin(images, aside)


def _opening(first: FirstKind, examples: Examples, is_aside: NDArray[np.bool_]) -> Phase:
    documents = examples.documents
    is_kind = np.array([kind == first.question_type for kind in documents.kinds], np.bool_)
    is_asked = is_kind[documents.kind_numbers[examples.numbers]]
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


def _groups(config: Config, examples: Examples, indices: NDArray[np.int32]) -> tuple[Group, ...]:
    """The mixture: the main set by kinds and source weights, beside the extra set."""
    if config.extra is None:
        return tuple(_main_groups(config, examples, indices, 1.0))
    is_extra = examples.is_extra[examples.numbers[indices]]
    beside, main = indices[is_extra], indices[~is_extra]
    if not len(beside) or not len(main):
        raise TaskError("pretraining: the extra set holds no text, or all; check extra.sources")
    return (
        *_main_groups(config, examples, main, 1.0 - config.extra.share),
        *_by_weight(
            config, examples, beside, config.extra.share, loss_weight=config.extra.loss_weight
        ),
    )


def _main_groups(
    config: Config, examples: Examples, indices: NDArray[np.int32], share: float
) -> Iterator[Group]:
    documents = examples.documents
    numbers = examples.numbers[indices]
    is_question = documents.is_question[numbers]
    asked, told = indices[is_question], indices[~is_question]
    if config.question_share is None or not len(asked) or not len(told):
        yield from _by_weight(config, examples, indices, share)
        return
    if config.question_share < 1:
        yield from _by_weight(config, examples, told, share * (1 - config.question_share))
    kinds = documents.kind_numbers[examples.numbers[asked]]
    if not config.balances_kinds:
        kinds = np.zeros_like(kinds)
    each = share * config.question_share / len(np.unique(kinds))
    if each > 0:
        for kind in dict.fromkeys(kinds.tolist()):
            yield from _by_weight(config, examples, asked[kinds == kind], each)


def _by_weight(
    config: Config,
    examples: Examples,
    indices: NDArray[np.int32],
    share: float,
    *,
    loss_weight: float | None = None,
) -> Iterator[Group]:
    """Sources of equal weight together; each text of weight 2 is drawn as often as two of 1."""
    documents = examples.documents
    weight_of = np.array([config.sources.get(name, 1.0) for name in documents.sources])
    weights = weight_of[documents.source_numbers[examples.numbers[indices]]]
    total = float(weights.sum())
    for weight in np.unique(weights):
        chosen = indices[weights == weight]
        yield Group(
            indices=chosen,
            share=share * float(weight) * len(chosen) / total,
            loss_weight=loss_weight,
            places=_places(config, examples, chosen),
            window=config.window,
        )


def _places(
    config: Config, examples: Examples, indices: NDArray[np.int32]
) -> NDArray[np.int32] | None:
    """Row group of each example; None where one window holds them all."""
    documents = examples.documents
    if documents.places is None or config.window == 0:
        return None
    if len(np.unique(documents.places)) <= config.window:
        return None
    places: NDArray[np.int32] = documents.places[documents.image_numbers[examples.numbers[indices]]]
    return places


__all__ = ["CAPTION", "Examples", "answers", "examples", "phases", "texts"]
