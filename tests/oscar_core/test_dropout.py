"""Dice that cost little: how often, how strong, and always the same from one seed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from oscar_core.add_and_norm import drop_add_norm
from oscar_core.dropout import Dropout, drawn, dropout, scale


@pytest.mark.parametrize("probability", [0.001, 0.1, 0.3, 0.999])
def test_as_many_are_dropped_as_asked(probability: float) -> None:
    torch.manual_seed(3)
    share = 1 - drawn((500, 1000), probability).float().mean().item()
    deviation = (probability * (1 - probability) / 500_000) ** 0.5
    assert share == pytest.approx(probability, abs=5 * deviation)


@given(st.floats(0.001, 0.999), st.lists(st.integers(0, 9), min_size=1, max_size=3))
def test_what_stays_is_scaled_and_so_is_its_gradient(probability: float, shape: list[int]) -> None:
    states = torch.randn(shape, requires_grad=True)
    dropped = dropout(states, probability)
    is_kept = dropped != 0
    torch.testing.assert_close(dropped, states * is_kept * scale(probability))
    (gradient,) = torch.autograd.grad(dropped.sum(), states)
    torch.testing.assert_close(gradient, is_kept * torch.tensor(scale(probability)))


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(5)
    is_kept = drawn((2, 200_000), 0.5).float() - 0.5
    for shift in (1, 2, 3, 4, 5, 8):
        together = (is_kept[:, shift:] * is_kept[:, :-shift]).mean().item() * 4
        assert abs(together) < 0.01
    assert abs((is_kept[0] * is_kept[1]).mean().item() * 4) < 0.015


def test_one_seed_drops_the_same_and_each_call_anew() -> None:
    states = torch.ones(100, 100)
    torch.manual_seed(1)
    first, second = dropout(states, 0.5), dropout(states, 0.5)
    torch.manual_seed(1)
    assert torch.equal(dropout(states, 0.5), first)
    assert not torch.equal(first, second)


def test_a_recomputed_layer_drops_what_it_dropped_before() -> None:
    layer = nn.Sequential(nn.Linear(20, 20), Dropout(0.5), nn.Linear(20, 20))
    states = torch.randn(30, 20)

    def gradient(*, recomputes: bool) -> Tensor:
        torch.manual_seed(7)
        found = checkpoint(layer, states, use_reentrant=False) if recomputes else layer(states)
        return torch.autograd.grad(found.square().sum(), layer[0].weight)[0]

    torch.testing.assert_close(gradient(recomputes=True), gradient(recomputes=False))


def test_nothing_is_dropped_outside_training_and_everything_at_one() -> None:
    layer, states = Dropout(0.4), torch.randn(4, 5)
    assert layer.eval()(states) is states
    assert not dropout(states, 1.0).any()


def test_sum_and_norm_are_those_of_three_modules() -> None:
    norm = nn.LayerNorm(12, eps=1e-12)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    states, residual = (torch.randn(9, 12, requires_grad=True) for _ in range(2))
    leaves = [states, residual, norm.weight, norm.bias]

    def found(sum_of: Tensor) -> list[Tensor]:
        weights = torch.linspace(-1, 1, 108).view(9, 12)
        return [sum_of, *torch.autograd.grad((sum_of * weights).sum(), leaves)]

    torch.manual_seed(2)
    ours = found(drop_add_norm(states, residual, norm, 0.3))
    torch.manual_seed(2)
    textbook = found(norm(dropout(states, 0.3) + residual))
    assert not torch.equal(textbook[0], norm(states + residual))
    for mine, theirs in zip(ours, textbook, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    plain = functional.layer_norm(states + residual, [12], norm.weight, norm.bias, 1e-12)
    torch.testing.assert_close(drop_add_norm(states, residual, norm, 0.0), plain)
