"""A batch in parts: the same gradients, and less of it in memory."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from detector.training.parts import in_parts

IMAGES = 5


def make_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1))


def make_inputs() -> Tensor:
    return torch.randn(IMAGES, 3, 9, 7, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("parts", [1, 2, 3, 5, 8])
def test_results_and_gradients_are_those_of_the_whole(parts: int) -> None:
    net, inputs = make_net(), make_inputs()
    whole = net(inputs)
    whole.square().mean().backward()
    wanted = [weight.grad.clone() for weight in net.parameters()]
    net.zero_grad()
    found = in_parts(lambda place: net(inputs[place]), IMAGES, parts)
    found.square().mean().backward()
    assert torch.allclose(found, whole, atol=1e-6)
    for weight, gradient in zip(net.parameters(), wanted, strict=True):
        assert torch.allclose(weight.grad, gradient, atol=1e-6)


@pytest.mark.parametrize(("parts", "sizes"), [(2, [3, 2]), (3, [2, 2, 1]), (8, [1] * 5)])
def test_only_one_part_is_there_at_once(parts: int, sizes: list[int]) -> None:
    net, inputs = make_net(), make_inputs()
    seen: list[int] = []
    kept: list[Tensor] = []

    def compute(place: slice) -> Tensor:
        seen.append(len(inputs[place]))
        return net(inputs[place])

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        found = in_parts(compute, IMAGES, parts)
    assert seen == sizes
    assert not kept  # nothing between inputs and results waits for the gradient
    found.sum().backward()
    assert sorted(seen) == sorted(sizes * 2)


def test_the_gradient_reaches_what_is_cut() -> None:
    maps = make_inputs().requires_grad_()
    in_parts(lambda place: maps[place] * 2, IMAGES, 2).sum().backward()
    assert maps.grad is not None
    assert torch.equal(maps.grad, torch.full_like(maps, 2.0))
