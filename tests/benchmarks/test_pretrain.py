"""The benchmark of pretraining compares two programs that compute the same."""

from dataclasses import replace

import pytest
import torch

from benchmarks.pretrain import arithmetic
from benchmarks.pretraining.real_texts import PHOTOS_BY_REGIONS, Batch
from benchmarks.pretraining.textbook import Textbook, TextbookAdamW
from oscar_core.losses import NOT_A_TARGET
from oscar_core.models import PretrainingModel
from oscar_core.packing import Layout, pack
from oscar_core.training.optimiser import PublishedAdamW
from tests.builders_core import make_config, make_inputs, make_tokenizer, seeded


def make_batch() -> Batch:
    layout = Layout(max_text=16, max_regions=4)
    packed = pack(make_inputs(4, seed=2), make_tokenizer(), layout)
    words = torch.full(packed.attention_mask.shape, NOT_A_TARGET)
    words[:, 1] = packed.input_ids[:, 1]
    return Batch(packed=packed, words=words, matches=torch.tensor([0, 1, 2, 0]))


def test_the_textbook_has_our_losses_with_and_without_words_everywhere() -> None:
    seeded()
    config, batch = make_config(), make_batch()
    model = PretrainingModel(config).eval()
    textbook = Textbook(config).eval()
    textbook.take(model)
    found = model.losses(batch.packed, batch.words, batch.matches)
    ours = (found.words + found.contrast).item()
    for everywhere in (True, False):
        theirs = textbook.loss(batch.packed, batch.words, batch.matches, everywhere=everywhere)
        assert theirs.item() == pytest.approx(ours, abs=1e-5)


def test_both_optimisers_take_the_same_steps() -> None:
    seeded()
    ours, theirs = (PretrainingModel(make_config()) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    batch = make_batch()
    published = PublishedAdamW(
        [{"params": [p], "weight_decay": 0.01 * (p.dim() > 1)} for p in ours.parameters()], lr=1e-3
    )
    textbook = TextbookAdamW(theirs, lr=1e-3, weight_decay=0.01)
    for model, optimiser in ((ours, published), (theirs, textbook)):
        for _ in range(3):
            found = model.losses(batch.packed, batch.words, batch.matches)
            torch.autograd.backward(found.words + found.contrast)
            optimiser.step()
            optimiser.zero_grad()
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        # the gradient of a key's bias is rounding noise, which Adam blows up
        if not name.endswith("key.bias"):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_arithmetic_counts_what_is_left_out() -> None:
    batch = make_batch()
    visible = torch.ones_like(batch.packed.attention_mask)
    everything = replace(batch, packed=replace(batch.packed, attention_mask=visible))
    assert arithmetic(batch, textbook=True) == arithmetic(everything, textbook=True)
    assert arithmetic(batch) < arithmetic(everything) < arithmetic(batch, textbook=True)


def test_regions_are_those_of_621_photos() -> None:
    assert sum(photos for _, photos in PHOTOS_BY_REGIONS) == 621
    assert all(1 <= regions <= 50 for regions, _ in PHOTOS_BY_REGIONS)
