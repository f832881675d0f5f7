"""Makes one pretraining sample: true or false texts, then masked words.

The rules of specs/oscar.md 6 with the corrected defaults of its section 11. Dice are drawn in the
original's order; what is ours alone draws none where it is off.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from oscar_core.dice import Dice
from oscar_core.losses import NOT_A_TARGET
from oscar_core.packing import Layout, TextRow, lengths_that_fit
from oscar_core.tasks.pretraining.negatives import Pairing, perhaps_wrong
from oscar_core.tasks.pretraining.records import MATCHED, WRONG_SECOND, Config, Example
from oscar_core.tokens import SPECIAL_TOKENS, Tokenizer

_MASK_SHARE, _RANDOM_SHARE = 0.8, 0.9
_UNUSED = re.compile(r"\[unused\d+\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One row before padding.

    text:       ids after masking, with [CLS] and [SEP]
    first_labels, second_labels: original id where masked, else -1; as long as the parts of `text`
    label:      MATCHED, WRONG_SECOND or WRONG_FIRST, or 0 and 1 of two classes; -1 where that is
                not asked
    is_foreign: a text comes from another image; what the original calls `is_img_match`
    """

    text: TextRow
    first_labels: list[int]
    second_labels: list[int]
    label: int
    is_foreign: bool


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
        number
        for number, token in enumerate(tokenizer.vocabulary)
        if token in SPECIAL_TOKENS or _UNUSED.fullmatch(token)
    }
    return Words(
        ordinary=tuple(i for i in range(len(tokenizer)) if i not in special),
        labels=frozenset(i for word in label_words for i in tokenizer.ids(word)) - special,
    )


def make_sample(
    config: Config, tokenizer: Tokenizer, example: Example, dice: Dice, *, is_probe: bool = False
) -> Sample:
    """Draw one sample.

    Args:
        config: Of the task.
        tokenizer: Of the model.
        example: The document and its image.
        dice: The example's own.
        is_probe: Ask for the whole answer of the true document, nothing else.

    Source: `oscar/datasets/oscar_tsv.py:OscarTSVDataset.__getitem__`; specs/oscar.md 6.
    """
    is_asked = not is_probe and _is_asked(config, example, dice)
    shown = perhaps_wrong(config, example, dice) if is_asked else Pairing(example.document)
    is_question = example.document.is_question
    hides_answer = is_question and (is_probe or _happens(config.answer_mask, dice))
    if not is_question and _happens(config.tag_drop, dice):
        shown = _without_tags(shown)
    masking = _Masking(config, tokenizer, example.corpus.label_words, dice)
    first, second = _cut(config, tokenizer, shown)
    if hides_answer:
        chance = 0.0 if is_probe else config.question_mask
        first, first_labels = masking.mask(first, chance)
        second, second_labels = [tokenizer.mask_id] * len(second), second
    else:
        labels_too = config.label_mask is not None and not (is_asked and config.contrast_share < 1)
        first, first_labels = masking.mask(first, config.mask_probability, labels_too=labels_too)
        if _spares_second(config, shown):
            second_labels = _no_labels(second)
        else:
            second, second_labels = masking.mask(
                second, config.mask_probability, labels_too=labels_too
            )
    if shown.kind != MATCHED and not _learns(config):
        # masked all the same: else the masks would tell what is matched
        first_labels, second_labels = _no_labels(first), _no_labels(second)
    return Sample(
        text=TextRow(
            [tokenizer.cls_id, *first, tokenizer.sep_id],
            [*second, tokenizer.sep_id] if second else [],
        ),
        first_labels=[NOT_A_TARGET, *first_labels, NOT_A_TARGET],
        second_labels=[*second_labels, NOT_A_TARGET] if second else [],
        label=min(shown.kind, config.num_contrast_classes - 1) if is_asked else NOT_A_TARGET,
        is_foreign=shown.is_foreign,
    )


def layout_of(config: Config) -> Layout:
    """How samples are padded: to the longest, which changes no result."""
    return Layout(
        max_text=config.max_text, max_regions=config.view.max_regions, pad_to_longest=True
    )


def _is_asked(config: Config, example: Example, dice: Dice) -> bool:
    """Whether the three-way objective is on for this example."""
    if example.document.is_question:
        return config.contrasts_questions
    return config.contrast_share == 1.0 or dice.random() < config.contrast_share


def _happens(share: float, dice: Dice) -> bool:
    """Draws nothing where the answer is known to be no."""
    return share > 0.0 and dice.random() < share


def _without_tags(shown: Pairing) -> Pairing:
    """No tags; where they were wrong, there is nothing wrong with them any more."""
    document = replace(shown.document, second="")
    if shown.kind == WRONG_SECOND:
        return Pairing(document)
    return replace(shown, document=document)


def _cut(config: Config, tokenizer: Tokenizer, shown: Pairing) -> tuple[list[int], list[int]]:
    """Ids of both texts, as many as there is room for."""
    first = tokenizer.ids(shown.document.first)
    second = tokenizer.ids(shown.document.second) if config.reads_second else []
    if not second:
        return first[: config.max_text - 2], []
    num_first, num_second = lengths_that_fit(len(first), len(second), config.max_text - 3)
    return first[:num_first], second[:num_second]


def _learns(config: Config) -> bool:
    """Whether the masked words of a mismatched example are learned."""
    return config.learns_mismatched or config.compat.spares_wrong_second_alone


def _spares_second(config: Config, shown: Pairing) -> bool:
    """Q17: a wrong second text stays as it is.

    With two classes a wrong first text has the label of a wrong second one; the original tells
    them apart by `texta_false_prob` being 0.5.
    """
    if config.learns_mismatched or not config.compat.spares_wrong_second_alone:
        return False
    label = min(shown.kind, config.num_contrast_classes - 1) * shown.is_foreign
    two_are_first = config.num_contrast_classes == 2 and config.wrong_first == config.mismatch
    return label == WRONG_SECOND and not two_are_first


class _Masking:
    """Masks each id by its chance: 8 in 10 [MASK], 1 in 10 another word, 1 in 10 as it is."""

    def __init__(
        self, config: Config, tokenizer: Tokenizer, label_words: frozenset[str], dice: Dice
    ) -> None:
        self._words = words_of(tokenizer, label_words)
        self._label_chance = config.label_mask or 0.0
        self._mask_id = tokenizer.mask_id
        self._others: Sequence[int] = self._words.ordinary
        if config.compat.draws_special_tokens:
            self._others = range(len(tokenizer))
        self._dice = dice

    def mask(
        self, ids: Sequence[int], chance: float, *, labels_too: bool = False
    ) -> tuple[list[int], list[int]]:
        """The ids after masking, and what was there.

        Args:
            ids: Of one text.
            chance: Of each id to be masked.
            labels_too: Words of the detector have a chance of their own.
        """
        masked, labels = list(ids), _no_labels(ids)
        for place, word in enumerate(ids):
            own = self._label_chance if labels_too and word in self._words.labels else chance
            drawn = self._dice.random()
            if drawn >= own:
                continue
            labels[place] = word
            share = drawn / own
            if share < _MASK_SHARE:
                masked[place] = self._mask_id
            elif share < _RANDOM_SHARE:
                masked[place] = self._others[self._dice.below(len(self._others))]
        return masked, labels


def _no_labels(ids: Sequence[int]) -> list[int]:
    return [NOT_A_TARGET] * len(ids)
