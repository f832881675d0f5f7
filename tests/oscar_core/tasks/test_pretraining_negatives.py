"""Wrong texts, and each quirk of the original both ways (specs/oscar.md 11)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from oscar_core.compat import SampleCompat
from oscar_core.dice import PythonDice
from oscar_core.errors import TaskError
from oscar_core.losses import NOT_A_TARGET
from oscar_core.tasks.pretraining.negatives import perhaps_wrong
from oscar_core.tasks.pretraining.records import (
    MATCHED,
    WRONG_FIRST,
    WRONG_SECOND,
    Config,
    Corpus,
    Document,
    Example,
    Negatives,
)
from oscar_core.tasks.pretraining.sample import Sample, make_sample, words_of
from oscar_core.tokens import SPECIAL_TOKENS, Tokenizer
from oscar_core.views import Views
from tests.builders_library import make_library

WORDS = [*"abcdefghij", "yes", "no"]
TOKENIZER = Tokenizer([*SPECIAL_TOKENS, "[unused1]", *WORDS])
VIEWS = Views(make_library(num_train=1, num_test=0), Config().view)


def caption(image_id: str, first: str, tags: str) -> Document:
    return Document(image_id=image_id, first=first, second=tags, is_question=False, kind="caption")


def question(image_id: str, first: str, answer: str) -> Document:
    return Document(image_id=image_id, first=first, second=answer, is_question=True, kind="what")


def examples_of(*documents: Document, negatives: Negatives = "second") -> list[Example]:
    images = list(dict.fromkeys(each.image_id for each in documents))
    corpus = Corpus(
        documents=documents,
        image_numbers=np.array([images.index(each.image_id) for each in documents], np.int32),
        members=range(len(documents)),
        answered=[number for number, each in enumerate(documents) if each.is_question],
        negatives=negatives,
    )
    return [
        Example(number=number, document=document, views=VIEWS, corpus=corpus)
        for number, document in enumerate(documents)
    ]


class Scripted:
    """Dice that fall as written down."""

    def __init__(self, *values: float | int) -> None:
        self._values = list(values)

    def random(self) -> float:
        value = self._values.pop(0)
        assert isinstance(value, float)
        return value

    def below(self, num: int) -> int:
        value = self._values.pop(0)
        assert isinstance(value, int)
        assert value < num
        return value


def config_of(compat: SampleCompat | None = None, **changes: Any) -> Config:
    return Config(compat=compat or SampleCompat(), **changes)


SECOND, FIRST = 0.3, 0.1  # draws that make the second or the first text wrong


@pytest.mark.parametrize(
    ("chance", "kind"), [(0.51, MATCHED), (0.5, WRONG_SECOND), (0.26, WRONG_SECOND), (0.25, 2)]
)
def test_the_first_draw_says_what_is_wrong(chance: float, kind: int) -> None:
    """A draw equal to a share still belongs below it."""
    own, _ = examples_of(caption("1", "a", "b"), caption("2", "c", "d"))
    assert perhaps_wrong(config_of(), own, Scripted(chance, 1)).kind == kind


def test_documents_of_the_same_image_are_drawn_again() -> None:
    own, *_ = examples_of(caption("1", "a", "b"), caption("1", "c", "b"), caption("2", "e", "f"))
    found = perhaps_wrong(config_of(), own, Scripted(FIRST, 1, 0, 2))
    assert (found.document.first, found.kind, found.is_foreign) == ("e", WRONG_FIRST, True)
    assert found.document.image_id == "1"


def near_to(own: Example, *numbers: int) -> Example:
    """With these captions as the ones that bear its tags."""
    return replace(own, corpus=replace(own.corpus, near={"b": numbers}))


def test_a_near_wrong_caption_has_the_same_tags() -> None:
    own, *_ = examples_of(caption("1", "a", "b"), caption("2", "c", "d"), caption("3", "e", "b"))
    dice = Scripted(FIRST, 0.4, 1)
    found = perhaps_wrong(config_of(near_negatives=0.5), near_to(own, 0, 2), dice)
    assert (found.document.first, found.kind) == ("e", WRONG_FIRST)


@pytest.mark.parametrize("near", [(), (0, 2)])
def test_without_a_near_caption_any_wrong_one_is_taken(near: tuple[int, ...]) -> None:
    own, *_ = examples_of(caption("1", "a", "b"), caption("2", "c", "d"), caption("3", "a", "b"))
    looks = [0] * 11 if near else []  # ten draws and a walk among those that say the same
    dice = Scripted(FIRST, 0.4, *looks, 1)
    found = perhaps_wrong(config_of(near_negatives=0.5), near_to(own, *near), dice)
    assert (found.document.first, found.kind) == ("c", WRONG_FIRST)


def test_any_text_may_be_the_wrong_second_one() -> None:
    own, _ = examples_of(caption("1", "a", "b"), caption("2", "c", "d"), negatives="any")
    told = [perhaps_wrong(config_of(), own, Scripted(SECOND, 1, half)) for half in (0, 1)]
    assert [each.document.second for each in told] == ["c", "d"]


def test_wrong_answers_come_from_questions() -> None:
    own, *_ = examples_of(
        caption("1", "a", "b"), caption("2", "c", "d"), question("3", "e", "f"), negatives="answers"
    )
    assert perhaps_wrong(config_of(), own, Scripted(SECOND, 0)).document.second == "f"


@pytest.mark.parametrize("keeps", [False, True])
def test_q10_without_another_image(keeps: bool) -> None:
    own, _ = examples_of(caption("1", "a", "b"), caption("1", "c", "b"))
    dice = Scripted(FIRST, *[1] * 10, *([] if keeps else [1]))
    found = perhaps_wrong(config_of(SampleCompat(keeps_same_image=keeps)), own, dice)
    told = (found.document.first, found.kind, found.is_foreign)
    assert told == (("c", WRONG_FIRST, False) if keeps else ("a", MATCHED, False))


@pytest.mark.parametrize("keeps", [False, True])
def test_q10_where_another_image_is_hard_to_hit(keeps: bool) -> None:
    own, *_ = examples_of(caption("1", "a", "b"), caption("1", "c", "b"), caption("2", "e", "f"))
    dice = Scripted(FIRST, *[1] * 10, *([] if keeps else [0]))
    found = perhaps_wrong(config_of(SampleCompat(keeps_same_image=keeps)), own, dice)
    assert found.document.first == ("c" if keeps else "e")
    assert found.is_foreign != keeps


@pytest.mark.parametrize("keeps", [False, True])
def test_q11_an_equal_answer(keeps: bool) -> None:
    own, *_ = examples_of(question("1", "a", "yes"), question("2", "b", "yes"))
    rest = [] if keeps else [*[1] * 9, *[0] * 1]
    found = perhaps_wrong(
        config_of(SampleCompat(keeps_equal_texts=keeps)), own, Scripted(SECOND, 1, *rest)
    )
    assert found.kind == (WRONG_SECOND if keeps else MATCHED)


def test_q11_an_equal_answer_is_drawn_again() -> None:
    own, *_ = examples_of(
        question("1", "a", "yes"), question("2", "b", "yes"), question("3", "c", "no")
    )
    found = perhaps_wrong(config_of(), own, Scripted(SECOND, 1, 2))
    assert (found.document.second, found.kind) == ("no", WRONG_SECOND)


@pytest.mark.parametrize("tags", ["b a", ""])
def test_the_same_tags_in_another_order_and_no_tags_are_not_wrong(tags: str) -> None:
    own, *_ = examples_of(caption("1", "a", "a b"), caption("2", "c", tags), caption("3", "d", "e"))
    assert perhaps_wrong(config_of(), own, Scripted(SECOND, 1, 2)).document.second == "e"


@pytest.mark.parametrize("pollutes", [False, True])
def test_q12_an_answer_that_is_not_read(pollutes: bool) -> None:
    own, _ = examples_of(question("1", "a", "yes"), question("2", "b", "no"))
    config = config_of(SampleCompat(pollutes_unread_answers=pollutes), reads_second=False)
    sample = make_sample(config, TOKENIZER, own, Scripted(SECOND, 1, 0.9))
    assert sample.label == (WRONG_SECOND if pollutes else WRONG_FIRST)
    assert sample.text.second == []
    assert sample.text.first[1:-1] == TOKENIZER.ids("a" if pollutes else "b")


def test_q13_a_share_above_the_half() -> None:
    with pytest.raises(TaskError, match="wrong_first"):
        config_of(wrong_first=0.6)
    config = config_of(SampleCompat(accepts_any_wrong_first=True), wrong_first=0.6)
    own, _ = examples_of(caption("1", "a", "b"), caption("2", "c", "d"))
    sample = make_sample(config, TOKENIZER, own, Scripted(0.45, 1, 0.9, 0.9))
    assert (sample.text.first[1:-1], sample.label) == (TOKENIZER.ids("c"), 1)


@pytest.mark.parametrize("draws", [False, True])
def test_q14_what_replaces_a_word(draws: bool) -> None:
    config = config_of(
        SampleCompat(draws_special_tokens=draws), mask_probability=1.0, mismatch=0.0, wrong_first=0
    )
    own, _ = examples_of(caption("1", "a", "b"), caption("2", "c", "d"))
    seen: Counter[int] = Counter()
    for seed in range(3000):
        sample = make_sample(config, TOKENIZER, own, PythonDice(seed))
        seen[sample.text.first[1]] += 1
    special = [TOKENIZER.vocabulary.index(token) for token in ("[PAD]", "[unused1]")]
    assert all((seen[token] > 0) == draws for token in special)
    ordinary = set(words_of(TOKENIZER, frozenset()).ordinary)
    assert ordinary == {TOKENIZER.ids(word)[0] for word in WORDS}


def masked_parts(sample: Sample) -> tuple[bool, bool]:
    """Whether the first and the second text have something to learn."""
    return tuple(
        any(label != NOT_A_TARGET for label in labels)
        for labels in (sample.first_labels, sample.second_labels)
    )  # type: ignore[return-value]  # a pair


@pytest.mark.parametrize(
    ("chance", "spares", "learned", "second_is_whole"),
    [
        (SECOND, True, (True, False), True),
        (FIRST, True, (True, True), False),
        (SECOND, False, (False, False), False),
        (FIRST, False, (False, False), False),
        (0.9, False, (True, True), False),
    ],
)
def test_q17_what_is_not_learned(
    chance: float, spares: bool, learned: tuple[bool, bool], second_is_whole: bool
) -> None:
    config = config_of(
        SampleCompat(spares_wrong_second_alone=spares),
        learns_mismatched=False,
        mask_probability=1.0,
    )
    own, _ = examples_of(caption("1", "a", "b"), caption("2", "c", "d"))
    pair = [] if chance > 0.5 else [1]
    masks = [0.0] if second_is_whole else [0.0, 0.0]
    sample = make_sample(config, TOKENIZER, own, Scripted(chance, *pair, *masks))
    assert masked_parts(sample) == learned
    assert (sample.text.second[0] != TOKENIZER.mask_id) == second_is_whole


@pytest.mark.parametrize(("wrong_first", "is_spared"), [(0.0, True), (0.5, False)])
def test_q17_with_two_classes(wrong_first: float, is_spared: bool) -> None:
    config = config_of(
        SampleCompat(spares_wrong_second_alone=True),
        learns_mismatched=False,
        mask_probability=1.0,
        wrong_first=wrong_first,
    )
    own, _ = examples_of(caption("1", "a", "b"), caption("2", "c", "d"))
    sample = make_sample(
        config, TOKENIZER, own, Scripted(0.4, 1, 0.0, *([] if is_spared else [0.0]))
    )
    assert sample.label == 1
    assert masked_parts(sample) == (True, not is_spared)


def test_q17_a_wrong_text_of_the_same_image_is_masked() -> None:
    """The flag of another image is 0, and with it what the original looks at."""
    config = config_of(
        SampleCompat(spares_wrong_second_alone=True, keeps_same_image=True, keeps_equal_texts=True),
        learns_mismatched=False,
        mask_probability=1.0,
    )
    own, _ = examples_of(caption("1", "a", "b"), caption("1", "c", "b"))
    sample = make_sample(config, TOKENIZER, own, Scripted(SECOND, *[1] * 10, 0.0, 0.0))
    assert (sample.label, sample.is_foreign) == (WRONG_SECOND, False)
    assert masked_parts(sample) == (True, True)


@pytest.mark.parametrize("takes", [False, True])
def test_q18_an_answer_of_the_same_image(takes: bool) -> None:
    own, *_ = examples_of(
        question("1", "a", "yes"),
        question("1", "b", "no"),
        question("2", "c", "d"),
        negatives="answers",
    )
    dice = Scripted(SECOND, 0, 1, *([] if takes else [2]))
    found = perhaps_wrong(config_of(SampleCompat(takes_own_answers=takes)), own, dice)
    assert found.document.second == ("no" if takes else "d")
    assert found.is_foreign != takes


@pytest.mark.parametrize(
    ("settings", "num"),
    [
        ({}, 3),
        ({"wrong_first": 0.0}, 2),
        ({"wrong_first": 0.5}, 2),
        ({"wrong_first": 0.0, "reads_second": False}, 3),
        ({"wrong_first": 0.0, "mismatch": 0.0}, 3),
    ],
)
def test_there_are_as_many_classes_as_kinds_of_wrong(settings: dict[str, Any], num: int) -> None:
    assert Config(**settings).num_contrast_classes == num


def test_the_vanilla_objective_has_labels_0_and_1() -> None:
    examples = examples_of(*(caption(str(i), word, word) for i, word in enumerate("abcdef")))
    config = config_of(negatives="any", wrong_first=0.0)
    samples = [make_sample(config, TOKENIZER, examples[i % 6], PythonDice(i)) for i in range(200)]
    counts = Counter(sample.label for sample in samples)
    assert set(counts) == {0, 1}
    assert counts[1] == pytest.approx(100, abs=25)


def kept_labels(ids: Sequence[int], labels: Sequence[int]) -> list[int]:
    return [
        word if label == NOT_A_TARGET else label for word, label in zip(ids, labels, strict=True)
    ]


def test_what_is_masked_can_be_read_off_the_labels() -> None:
    own, _ = examples_of(caption("1", "a b c d e", "f g h"), caption("2", "c", "d"))
    config = config_of(mask_probability=0.5, mismatch=0.0, wrong_first=0.0)
    for seed in range(50):
        sample = make_sample(config, TOKENIZER, own, PythonDice(seed))
        whole = kept_labels(sample.text.first, sample.first_labels)
        assert whole[1:-1] == TOKENIZER.ids("a b c d e")


def test_what_is_off_draws_nothing() -> None:
    """So that the recorded draws of the original fit the defaults."""
    own, _ = examples_of(caption("1", "a", "b"), caption("2", "c", "d"))
    plain = make_sample(config_of(), TOKENIZER, own, Scripted(0.9, 0.9, 0.9))
    assert plain.label == MATCHED
    dropped = make_sample(config_of(tag_drop=0.5), TOKENIZER, own, Scripted(0.9, 0.4, 0.9))
    assert dropped.text.second == []
    asked = replace(config_of(), contrast_share=0.5)
    assert make_sample(asked, TOKENIZER, own, Scripted(0.6, 0.9, 0.9)).label == NOT_A_TARGET
