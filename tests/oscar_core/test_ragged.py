"""The pass without padding against the padded one."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from oscar_core.dropout import drawn, scale
from oscar_core.errors import PackingError
from oscar_core.models import PretrainingModel
from oscar_core.packing import Layout, PackedBatch, pack
from oscar_core.ragged import read
from oscar_core.ragged_attention import attend
from tests.builders_core import make_config, make_inputs, make_tokenizer, seeded


def make_batch(num: int, seed: int) -> PackedBatch:
    layout = Layout(max_text=16, max_regions=4)
    return pack(make_inputs(num, seed=seed), make_tokenizer(), layout)


def gradients(model: PretrainingModel, value: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    torch.autograd.backward(value)
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


@settings(max_examples=15)
@given(st.integers(1, 5), st.integers(0, 99), st.integers(0, 2), st.floats(0, 1))
def test_it_reads_what_the_padded_pass_computes(
    num: int, seed: int, num_layers: int, share: float
) -> None:
    seeded(seed)
    model = PretrainingModel(make_config(num_layers=num_layers)).train()
    batch = make_batch(num, seed)
    wanted = (torch.rand(batch.attention_mask.shape) < share) & batch.attention_mask
    padded = model.encode(batch)
    found = read(model.encoder, batch, wanted)
    torch.testing.assert_close(found.wanted, padded.sequence[wanted], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.pooled, padded.pooled, rtol=1e-5, atol=1e-5)
    theirs = gradients(model, padded.sequence[wanted].tanh().sum() + padded.pooled.sum())
    ours = gradients(model, found.wanted.tanh().sum() + found.pooled.sum())
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-4, atol=1e-4)


def test_a_hidden_position_cannot_be_read() -> None:
    model, batch = PretrainingModel(make_config()), make_batch(3, 0)
    with pytest.raises(PackingError, match="hides"):
        read(model.encoder, batch, ~batch.attention_mask)


def test_a_mask_by_query_cannot_be_read_without_padding() -> None:
    model, batch = PretrainingModel(make_config()), make_batch(2, 0)
    length = batch.attention_mask.shape[1]
    by_query = PackedBatch(
        input_ids=batch.input_ids,
        token_type_ids=batch.token_type_ids,
        attention_mask=batch.attention_mask[:, None].expand(-1, length, -1),
        region_features=batch.region_features,
    )
    with pytest.raises(PackingError, match="padding"):
        read(model.encoder, by_query, torch.zeros(2, length, dtype=torch.bool))


def test_a_recomputed_pass_has_the_same_gradients() -> None:
    config = make_config(hidden_dropout=0.2, attention_dropout=0.2)
    seeded(4)
    model, batch = PretrainingModel(config).train(), make_batch(4, 4)

    def found() -> dict[str, Tensor]:
        seeded(5)
        return gradients(model, read(model.encoder, batch, batch.attention_mask).wanted.sum())

    plain = found()
    model.activation_checkpointing_enable()
    for name, gradient in found().items():
        torch.testing.assert_close(gradient, plain[name])


LENGTHS = [(3, 70), (90, 90), (1, 128), (128, 128)]
HEADS, WIDTH = 8, 32


def one_by_one(
    queries: Tensor, keys: Tensor, values: Tensor, drop: Callable[[Tensor], Tensor]
) -> Tensor:
    """Attention as the books have it, example by example."""
    rows = []
    for q, k, v in zip(
        queries.split([m for m, _ in LENGTHS]),
        keys.split([n for _, n in LENGTHS]),
        values.split([n for _, n in LENGTHS]),
        strict=True,
    ):
        by_head = [each.view(len(each), HEADS, -1).transpose(0, 1) for each in (q, k, v)]
        scores = by_head[0] @ by_head[1].mT / (WIDTH // HEADS) ** 0.5
        context = drop(scores.softmax(-1)) @ by_head[2]
        rows.append(context.transpose(0, 1).flatten(1))
    return torch.cat(rows)


@pytest.mark.parametrize("probability", [0.0, 0.3])
def test_attention_of_each_example_by_itself_drops_by_one_row_of_dice(probability: float) -> None:
    seeded(1)
    num = sum(n for _, n in LENGTHS)
    queries = torch.randn(sum(m for m, _ in LENGTHS), WIDTH, requires_grad=True)
    keys, values = (torch.randn(num, WIDTH, requires_grad=True) for _ in range(2))
    seeded(2)
    ours = attend(
        queries,
        keys,
        values,
        num_heads=HEADS,
        num_queries=[m for m, _ in LENGTHS],
        num_keys=[n for _, n in LENGTHS],
        dropout=probability,
    )
    assert type(ours.grad_fn).__name__ == "_EachAloneBackward"
    seeded(2)
    dice = iter(())
    if probability:
        sizes = [HEADS * m * n for m, n in LENGTHS]
        dice = iter(drawn([sum(sizes)], probability).split(sizes))

    def drop(weights: Tensor) -> Tensor:
        if not probability:
            return weights
        return weights * next(dice).view(weights.shape) * scale(probability)

    textbook = one_by_one(queries, keys, values, drop)
    torch.testing.assert_close(ours, textbook, rtol=1e-4, atol=1e-5)
    leaves = (queries, keys, values)
    mine = torch.autograd.grad(ours.square().sum(), leaves)
    theirs = torch.autograd.grad(textbook.square().sum(), leaves)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
