"""The one packer: every token and region in its place, nothing lost that fits."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oscar_core.compat import PackingCompat
from oscar_core.encoder import OscarEncoder
from oscar_core.errors import PackingError
from oscar_core.packing import (
    EncoderInput,
    Layout,
    lengths_that_fit,
    pack,
    pack_pairs,
)
from tests.builders_core import (
    FEATURE_DIM,
    WORDS,
    make_config,
    make_input,
    make_inputs,
    make_tokenizer,
    seeded,
)

TEXT = st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join)
INPUTS = st.lists(
    st.builds(
        lambda a, b, n, seed: make_input(a, b, num_regions=n, seed=seed),
        TEXT,
        TEXT,
        st.integers(0, 6),
        st.integers(0, 9),
    ),
    min_size=1,
    max_size=6,
)
LAYOUTS = st.builds(
    Layout,
    max_text=st.integers(3, 20),
    max_regions=st.integers(1, 5),
    pad_to_longest=st.booleans(),
    cut=st.sampled_from(["longer", "second"]),
)


@given(INPUTS, LAYOUTS)
def test_visible_text_is_both_texts_in_their_frame(
    inputs: list[EncoderInput], layout: Layout
) -> None:
    tokenizer = make_tokenizer()
    batch = pack(inputs, tokenizer, layout)
    num_text = batch.input_ids.shape[1]
    assert num_text <= layout.max_text
    for row, one in enumerate(inputs):
        seen = batch.attention_mask[row, :num_text]
        ids = batch.input_ids[row][seen].tolist()
        first = ids.index(tokenizer.sep_id)
        ids_a, ids_b = tokenizer.ids(one.text_a), tokenizer.ids(one.text_b)
        assert ids[0] == tokenizer.cls_id
        assert ids[1:first] == ids_a[: first - 1]
        rest = ids[first + 1 :]
        assert rest == [] or rest == [*ids_b[: len(rest) - 1], tokenizer.sep_id]
        types = batch.token_type_ids[row][seen].tolist()
        assert types == [0] * (first + 1) + [1] * len(rest)
        if len(ids_a) + len(ids_b) + 3 <= layout.max_text:
            assert len(ids) == len(ids_a) + len(ids_b) + (3 if ids_b else 2)
    assert not batch.input_ids[~batch.attention_mask[:, :num_text]].any()
    assert not batch.token_type_ids[~batch.attention_mask[:, :num_text]].any()


@given(INPUTS, LAYOUTS)
def test_regions_are_the_first_ones_and_the_rest_is_hidden_zeros(
    inputs: list[EncoderInput], layout: Layout
) -> None:
    batch = pack(inputs, make_tokenizer(), layout)
    num_text = batch.input_ids.shape[1]
    for row, one in enumerate(inputs):
        kept = one.regions[: layout.max_regions]
        seen = batch.attention_mask[row, num_text:]
        assert seen.tolist() == [True] * len(kept) + [False] * (len(seen) - len(kept))
        assert np.array_equal(batch.region_features[row][seen].numpy(), kept)
        assert not batch.region_features[row][~seen].any()


@given(INPUTS, st.integers(6, 20))
def test_padding_to_the_longest_changes_no_answer(
    inputs: list[EncoderInput], max_text: int
) -> None:
    seeded()
    encoder = OscarEncoder(make_config()).eval()
    pooled = []
    for pad_to_longest in (False, True):
        layout = Layout(max_text=max_text, max_regions=6, pad_to_longest=pad_to_longest)
        batch = pack(inputs, make_tokenizer(), layout)
        with torch.no_grad():
            pooled.append(
                encoder(
                    batch.input_ids,
                    batch.token_type_ids,
                    batch.attention_mask,
                    batch.region_features,
                ).pooled
            )
    torch.testing.assert_close(pooled[0], pooled[1], rtol=0, atol=1e-5)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 60))
def test_cutting_in_one_go_equals_cutting_token_by_token(a: int, b: int, room: int) -> None:
    left, right = a, b
    while left + right > room:
        if left > right:
            left -= 1
        else:
            right -= 1
    assert lengths_that_fit(a, b, room) == (left, right)


def test_tags_after_a_full_caption_find_no_room() -> None:
    tokenizer = make_tokenizer()
    long = make_input("a red car on the grass", "dog car")
    exact = Layout(max_text=8, max_regions=3, cut="second")
    room_for_sep = Layout(max_text=9, max_regions=3, cut="second")
    assert pack([long], tokenizer, exact).token_type_ids.sum() == 0
    packed = pack([long], tokenizer, room_for_sep)
    assert packed.input_ids[0, -1] == tokenizer.sep_id
    assert packed.token_type_ids[0].tolist() == [0] * 8 + [1]


def test_the_original_overflows_there() -> None:
    compat = PackingCompat(overflows_with_tags=True)
    long = make_input("a red car on the grass", "dog car dog")
    layout = Layout(max_text=8, max_regions=3, cut="second")
    packed = pack([long], make_tokenizer(), layout, compat)
    assert packed.input_ids.shape == (1, 11)  # tags less one, and [SEP]


def test_each_image_of_a_pair_cuts_the_statement_by_itself() -> None:
    tokenizer = make_tokenizer()
    statement = "a red car on the grass"
    wordy = make_input(statement, "dog car dog car dog car")
    silent = make_input(statement, "")
    layout = Layout(max_text=9, max_regions=3)
    ours = pack_pairs([(wordy, silent)], tokenizer, layout)
    alone = pack([silent], tokenizer, layout)
    assert ours.input_ids[1].tolist() == alone.input_ids[0].tolist()
    compat = PackingCompat(cuts_text_of_next_image=True)
    theirs = pack_pairs([(wordy, silent)], tokenizer, layout, compat)
    kept = theirs.input_ids[0].tolist().index(tokenizer.sep_id)
    assert theirs.input_ids[1].tolist()[: kept + 1] == theirs.input_ids[0].tolist()[: kept + 1]
    assert theirs.input_ids[1, kept + 1] == tokenizer.pad_id


@pytest.mark.parametrize(("sight", "hidden"), [("CL", "R"), ("CR", "L"), ("LR", "C")])
def test_partial_sight_keeps_one_part_to_itself(sight: str, hidden: str) -> None:
    layout = Layout(max_text=10, max_regions=4, sight=sight)  # type: ignore[arg-type]
    packed = pack([make_input("a red car", "dog", num_regions=2)], make_tokenizer(), layout)
    mask = packed.attention_mask[0]
    parts = {"C": range(5), "L": range(5, 7), "R": range(10, 12)}
    for one, rows in parts.items():
        for other, columns in parts.items():
            sees = one == other or hidden not in (one, other)
            assert bool(mask[list(rows)][:, list(columns)].all()) == sees
            assert bool(mask[list(rows)][:, list(columns)].any()) == sees
    assert not mask[7:10].any()
    assert not mask[12:].any()


def test_rows_of_a_kept_packing_are_the_examples_themselves() -> None:
    inputs = make_inputs(5)
    layout = Layout(max_text=16, max_regions=4)
    whole = pack(inputs, make_tokenizer(), layout)
    some = whole.rows(torch.tensor([3, 1]))
    alone = pack([inputs[3], inputs[1]], make_tokenizer(), layout)
    for name in ("input_ids", "token_type_ids", "attention_mask", "region_features"):
        assert torch.equal(getattr(some, name), getattr(alone, name))


def test_an_empty_batch_and_mixed_widths_are_refused() -> None:
    layout = Layout(max_text=8, max_regions=2)
    with pytest.raises(PackingError, match="at least one"):
        pack([], make_tokenizer(), layout)
    other = EncoderInput(text_a="a", regions=np.zeros((1, FEATURE_DIM + 1), np.float32))
    with pytest.raises(PackingError, match="widths"):
        pack([make_input(), other], make_tokenizer(), layout)


@pytest.mark.parametrize(
    "lengths",
    [
        {"max_text": 2, "max_regions": 1},
        {"max_text": 9, "max_regions": -1},
        {"max_text": 9, "max_regions": 1, "max_text_a": 10},
        {"max_text": 9, "max_regions": 1, "max_text_a": 2},
    ],
)
def test_layouts_without_room_are_refused(lengths: dict[str, int]) -> None:
    with pytest.raises(PackingError):
        Layout(**lengths)  # type: ignore[arg-type]
