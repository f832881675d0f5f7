"""Captions: who sees whom, where tags stand, which words are masked."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oscar_core.caption_packing import (
    CaptionBatch,
    CaptionMasking,
    generation_layout,
    pack_captions,
    pack_prompts,
)
from oscar_core.compat import PackingCompat
from oscar_core.errors import PackingError
from oscar_core.models import CaptionModel
from oscar_core.packing import EncoderInput, Layout
from tests.builders_core import make_config, make_input, make_inputs, make_tokenizer, seeded

LAYOUT = Layout(max_text=20, max_text_a=12, max_regions=4)


class Dice(random.Random):
    """Chances as told, candidates in order, replacements from a seed of their own."""

    def __init__(self, chances: list[float], seed: int = 0) -> None:
        super().__init__(seed)
        self._chances = list(chances)
        self._words = random.Random(seed)

    def random(self) -> float:
        return self._chances.pop(0)

    def shuffle(self, x: list[int]) -> None:  # type: ignore[override]
        """Leave the order, so that the first candidates are the ones chosen."""

    def randint(self, a: int, b: int) -> int:
        return self._words.randint(a, b)


DEFAULT_MASKING = CaptionMasking()
OURS = PackingCompat()


def packed(
    inputs: list[EncoderInput],
    layout: Layout = LAYOUT,
    masking: CaptionMasking = DEFAULT_MASKING,
    seed: int = 0,
    compat: PackingCompat = OURS,
) -> CaptionBatch:
    draws = [random.Random(f"{seed} {n}") for n in range(len(inputs))]
    return pack_captions(inputs, make_tokenizer(), layout, masking, draws, compat)


@given(st.integers(0, 200), st.booleans())
def test_masked_words_are_told_and_belong_to_the_caption(seed: int, pad_to_longest: bool) -> None:
    tokenizer = make_tokenizer()
    layout = Layout(max_text=20, max_text_a=12, max_regions=4, pad_to_longest=pad_to_longest)
    inputs = make_inputs(4, seed=seed)
    batch = packed(inputs, layout, seed=seed)
    targets = batch.targets().tolist()
    for row, one in enumerate(inputs):
        caption = [tokenizer.cls_id, *tokenizer.ids(one.text_a)[:10], tokenizer.sep_id]
        places = batch.masked[row].nonzero().flatten().tolist()
        assert 1 <= len(places) <= 3
        assert all(0 < place < len(caption) for place in places)
        assert [targets.pop(0) for _ in places] == [caption[place] for place in places]
        unmasked = [place for place in range(len(caption)) if place not in places]
        assert [batch.packed.input_ids[row, p].item() for p in unmasked] == [
            caption[p] for p in unmasked
        ]
    assert targets == []


@given(st.integers(0, 200))
def test_captions_look_back_and_tags_and_regions_never_at_the_caption(seed: int) -> None:
    inputs = make_inputs(3, seed=seed)
    batch = packed(inputs)
    tokenizer = make_tokenizer()
    for row, one in enumerate(inputs):
        num = len(tokenizer.ids(one.text_a)[:10]) + 2
        tags = len(tokenizer.ids(one.text_b)[:7]) + 1 if one.text_b else 0
        caption = set(range(num))
        context = {*range(12, 12 + tags), *range(20, 20 + len(one.regions))}
        for query in range(24):
            seen = set(batch.packed.attention_mask[row, query].nonzero().flatten().tolist())
            if query in caption:
                assert seen == set(range(query + 1)) | context
            else:
                assert seen == (context if query in context else set())


@given(st.integers(0, 60))
def test_padding_to_the_longest_changes_no_logits(seed: int) -> None:
    seeded()
    model = CaptionModel(make_config()).eval()
    inputs = make_inputs(3, seed=seed)
    logits = []
    for pad_to_longest in (False, True):
        layout = Layout(max_text=20, max_text_a=12, max_regions=4, pad_to_longest=pad_to_longest)
        batch = packed(inputs, layout, seed=seed)
        with torch.no_grad():
            logits.append(model(batch.packed, batch.masked))
    torch.testing.assert_close(logits[0], logits[1], rtol=0, atol=1e-5)


def test_tags_keep_their_position_ids_however_short_the_captions_are() -> None:
    layout = Layout(max_text=20, max_text_a=12, max_regions=4, pad_to_longest=True)
    batch = packed([make_input("a", "car dog")], layout)
    assert batch.caption_slots == 3
    positions = batch.packed.position_ids
    assert positions is not None
    assert positions[0].tolist() == [0, 1, 2, 12, 13, 14]


@pytest.mark.parametrize(
    ("num_words", "share", "count"),
    [(0, 0.15, 1), (8, 0.25, 2), (8, 0.35, 4), (8, 0.05, 1), (4, 0.75, 4), (8, 0.15, 2)],
)
def test_halves_are_rounded_to_the_even_count_and_one_word_is_masked_at_least(
    num_words: int, share: float, count: int
) -> None:
    """10 tokens: 2.5 -> 2, 3.5 -> 4, 0.5 -> 0 -> 1; 6 tokens: 4.5 -> 4; 2 tokens: 0.3 -> 1."""
    one = make_input(" ".join(["dog"] * num_words))
    batch = packed([one], masking=CaptionMasking(probability=share, max_masked=9))
    assert batch.masked.sum() == count


def test_no_more_than_the_most_are_masked() -> None:
    one = make_input(" ".join(["dog"] * 9))
    assert packed([one], masking=CaptionMasking(probability=1.0)).masked.sum() == 3


def first_word(chances: list[float]) -> int:
    """What becomes of the one masked word, "red"."""
    tokenizer = make_tokenizer()
    masking = CaptionMasking(max_masked=1)
    batch = pack_captions([make_input("red")], tokenizer, LAYOUT, masking, [Dice(chances)])
    assert batch.masked[0].nonzero().flatten().tolist() == [1]
    return int(batch.packed.input_ids[0, 1])


def test_both_chances_include_their_limit() -> None:
    tokenizer = make_tokenizer()
    red = tokenizer.ids("red")[0]
    assert first_word([0.8]) == tokenizer.mask_id
    assert first_word([0.81, 0.51]) == red
    assert first_word([0.81, 0.5]) == Dice([]).randint(0, len(tokenizer) - 1)


def replacements(compat: PackingCompat) -> set[int]:
    """Every id that a replaced word may become."""
    tokenizer = make_tokenizer()
    found = set()
    for seed in range(400):
        draw = Dice([0.9, 0.1], seed)
        masking = CaptionMasking(max_masked=1)
        batch = pack_captions([make_input("")], tokenizer, LAYOUT, masking, [draw], compat)
        found.add(int(batch.packed.input_ids[0, 1]))
    return found


def test_replacements_are_drawn_from_the_whole_vocabulary_and_no_further() -> None:
    assert replacements(PackingCompat()) == set(range(len(make_tokenizer())))


def test_the_original_may_draw_one_past_the_vocabulary_which_is_unknown() -> None:
    tokenizer = make_tokenizer()

    class Last(Dice):
        def randint(self, a: int, b: int) -> int:
            assert (a, b) == (0, len(tokenizer))
            return b

    compat = PackingCompat(draws_one_past_vocabulary=True)
    batch = pack_captions(
        [make_input("red")],
        tokenizer,
        LAYOUT,
        CaptionMasking(max_masked=1),
        [Last([0.9, 0.1])],
        compat,
    )
    assert batch.packed.input_ids[0, 1] == tokenizer.unk_id


def test_masked_ids_are_full_length_even_when_every_word_is_masked() -> None:
    masking = CaptionMasking(probability=1.0, max_masked=8)
    ours = packed([make_input("red car")], masking=masking)
    assert ours.masked_ids.shape == (1, 8)
    assert ours.masked.sum() == 3  # of [CLS] red car [SEP]
    theirs = packed(
        [make_input("red car")], masking=masking, compat=PackingCompat(shortens_masked_ids=True)
    )
    assert theirs.masked_ids.shape == (1, 7)
    assert theirs.targets().tolist() == ours.targets().tolist()


def test_repeated_tags_are_kept() -> None:
    tokenizer = make_tokenizer()
    batch = packed([make_input("a", "dog dog dog")])
    assert batch.packed.input_ids[0, 12:16].tolist() == [*tokenizer.ids("dog dog dog"), 3]


def test_a_prompt_has_slots_for_the_caption_and_tags_where_they_were_in_training() -> None:
    tokenizer = make_tokenizer()
    layout = generation_layout(LAYOUT, 6)
    batch = pack_prompts([make_input("never read", "car dog")], tokenizer, layout)
    expected = [tokenizer.cls_id, *[tokenizer.mask_id] * 4, tokenizer.sep_id]
    assert batch.packed.input_ids[0, :6].tolist() == expected
    assert batch.packed.position_ids is not None
    assert batch.packed.position_ids[0, 6:9].tolist() == [12, 13, 14]
    assert generation_layout(LAYOUT, 15).tag_position == 15
    assert batch.masked.all()


def test_a_layout_without_caption_slots_is_refused() -> None:
    with pytest.raises(PackingError, match="max_text_a"):
        packed([make_input()], Layout(max_text=9, max_regions=2))


def test_too_few_generators_are_refused() -> None:
    with pytest.raises(PackingError, match="generators"):
        pack_captions([make_input()], make_tokenizer(), LAYOUT, CaptionMasking(), [])
