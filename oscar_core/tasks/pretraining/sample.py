"""Makes one pretraining sample: true or false texts, then masked words.

The rules of specs/oscar.md 6 with the corrected defaults of its section 11; all dice come from
the example's own generator.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from oscar_core.losses import NOT_A_TARGET
from oscar_core.packing import Layout, TextRow, lengths_that_fit
from oscar_core.tasks.pretraining.dataset import tag_key
from oscar_core.tasks.pretraining.records import (
    MATCHED,
    WRONG_FIRST,
    WRONG_SECOND,
    Config,
    Corpus,
    Document,
    Example,
)
from oscar_core.tokens import Tokenizer

_TRIES = 10
_MASK_SHARE, _RANDOM_SHARE = 0.8, 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One row before padding.

    text:         ids after masking, with [CLS] and [SEP]
    first_labels, second_labels: original id where masked, else -1; as long as the parts of `text`
    label:        MATCHED, WRONG_SECOND or WRONG_FIRST; -1 where that is not asked
    """

    text: TextRow
    first_labels: list[int]
    second_labels: list[int]
    label: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What masking needs of a vocabulary.

    ordinary: ids that may replace a word: no special token (Q14)
    labels:   ids that stand in a word of the detector
    """

    ordinary: tuple[int, ...]
    labels: frozenset[int]


@lru_cache(maxsize=4)
def words_of(tokenizer: Tokenizer, label_words: frozenset[str]) -> Words:
    """Sort the vocabulary, once a corpus."""
    special = {
        tokenizer.pad_id,
        tokenizer.unk_id,
        tokenizer.cls_id,
        tokenizer.sep_id,
        tokenizer.mask_id,
    }
    return Words(
        ordinary=tuple(i for i in range(len(tokenizer)) if i not in special),
        labels=frozenset(i for word in label_words for i in tokenizer.ids(word)) - special,
    )


def make_sample(
    config: Config,
    tokenizer: Tokenizer,
    example: Example,
    draw: np.random.Generator,
    *,
    is_probe: bool = False,
) -> Sample:
    """Draw one sample.

    Args:
        config: Of the task.
        tokenizer: Of the model.
        example: The document and its image.
        draw: The example's random source.
        is_probe: Ask for the whole answer of the true document, nothing else.
    """
    shown, label = example.document, NOT_A_TARGET
    is_asked = not is_probe and (
        config.contrasts_questions if shown.is_question else draw.random() < config.contrast_share
    )
    if is_asked:
        shown, label = _perhaps_wrong(config, example, draw)
    hides_answer = shown.is_question and (is_probe or draw.random() < config.answer_mask)
    if not shown.is_question and draw.random() < config.tag_drop:
        shown = replace(shown, second="")
        # without tags there is nothing wrong with them
        label = MATCHED if label == WRONG_SECOND else label
    first, second = tokenizer.ids(shown.first), tokenizer.ids(shown.second)
    num_first, num_second = _fit(len(first), len(second), config.max_text)
    first, second = first[:num_first], second[:num_second]
    words = words_of(tokenizer, example.corpus.label_words)
    if hides_answer:
        chance = 0.0 if is_probe else config.question_mask
        first, first_labels = _mask(first, lambda _: chance, tokenizer, words, draw)
        second, second_labels = [tokenizer.mask_id] * len(second), second
    else:
        chances = _chances(config, words, is_plain=is_asked and config.contrast_share < 1)
        first, first_labels = _mask(first, chances, tokenizer, words, draw)
        second, second_labels = _mask(second, chances, tokenizer, words, draw)
    if label > MATCHED and not config.learns_mismatched:
        # masked all the same: else the masks would tell what is matched
        first_labels, second_labels = _no_labels(first), _no_labels(second)
    ending = [tokenizer.sep_id] if second else []
    return Sample(
        text=TextRow([tokenizer.cls_id, *first, tokenizer.sep_id], [*second, *ending]),
        first_labels=[NOT_A_TARGET, *first_labels, NOT_A_TARGET],
        second_labels=[*second_labels, *([NOT_A_TARGET] if second else [])],
        label=label,
    )


def layout_of(config: Config) -> Layout:
    """Room of a batch; shrinks to the longest row, which changes no result."""
    return Layout(
        max_text=config.max_text, max_regions=config.view.max_regions, pad_to_longest=True
    )


def _perhaps_wrong(
    config: Config, example: Example, draw: np.random.Generator
) -> tuple[Document, int]:
    """The document, or one whose first or second text belongs to another image."""
    right, corpus = example.document, example.corpus
    chance = draw.random()
    if chance > config.mismatch:
        return right, MATCHED
    if chance > config.wrong_first and right.second:
        wrong = _another(corpus, right, _pool(config, corpus), draw)
        text = wrong.second
        if config.negatives == "any" and draw.random() < 0.5:
            text = wrong.first
        # the same words are not wrong, whosever they are (Q11)
        label = MATCHED if _same(text, right.second) else WRONG_SECOND
        return replace(right, second=text), label
    pool: Sequence[int] | None = None
    if not right.is_question and draw.random() < config.near_negatives:
        pool = corpus.near.get(tag_key(right.second))
    wrong = _another(corpus, right, pool or range(len(corpus.documents)), draw)
    label = MATCHED if _same(wrong.first, right.first) else WRONG_FIRST
    return replace(right, first=wrong.first), label


def _pool(config: Config, corpus: Corpus) -> Sequence[int]:
    if config.negatives == "answers" and corpus.answered:
        return corpus.answered
    return range(len(corpus.documents))


def _another(
    corpus: Corpus, right: Document, pool: Sequence[int], draw: np.random.Generator
) -> Document:
    """A document of another image; the right one itself if none is found (Q10, Q18)."""
    for _ in range(_TRIES):
        found = corpus.documents[pool[int(draw.integers(len(pool)))]]
        if found.image_id != right.image_id:
            return found
    return right


def _same(one: str, other: str) -> bool:
    return one == other or tag_key(one) == tag_key(other)


def _fit(num_first: int, num_second: int, max_text: int) -> tuple[int, int]:
    if num_second:
        return lengths_that_fit(num_first, num_second, max_text - 3)
    return min(num_first, max_text - 2), 0


def _chances(config: Config, words: Words, *, is_plain: bool) -> Callable[[int], float]:
    if config.label_mask is None or is_plain:
        return lambda _: config.mask_probability
    of_labels = config.label_mask
    return lambda word: of_labels if word in words.labels else config.mask_probability


def _mask(
    ids: Sequence[int],
    chance: Callable[[int], float],
    tokenizer: Tokenizer,
    words: Words,
    draw: np.random.Generator,
) -> tuple[list[int], list[int]]:
    """Mask each id by its chance: 8 in 10 [MASK], 1 in 10 an ordinary word, 1 in 10 as it is."""
    masked, labels = list(ids), _no_labels(ids)
    for place, (word, dice) in enumerate(zip(ids, draw.random((len(ids), 2)), strict=True)):
        if dice[0] >= chance(word):
            continue
        labels[place] = word
        if dice[1] < _MASK_SHARE:
            masked[place] = tokenizer.mask_id
        elif dice[1] < _RANDOM_SHARE:
            masked[place] = words.ordinary[int(draw.integers(len(words.ordinary)))]
    return masked, labels


def _no_labels(ids: Sequence[int]) -> list[int]:
    return [NOT_A_TARGET] * len(ids)
