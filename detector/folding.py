"""Fixed normalisation folded into the convolution before it; the same up to rounding."""

import copy

import torch
from torch import Tensor, nn

from detector.model import AttributeRCNN
from detector.normalisation import FrozenNorm
from detector.resnext import Bottleneck, Stem


def fold_norms(model: AttributeRCNN) -> AttributeRCNN:
    """A copy for detection only, whose convolutions carry their normalisation.

    Values differ by rounding (about 1e-5 of a feature; more in deep networks of random weights),
    so use the model itself where the last digits count. Not for training and not for storing.

    Args:
        model: In evaluation mode; live normalisation is taken with its running statistics.

    Source: `specs/detector.md` 11.
    """
    assert not model.training, "call eval() first: live statistics cannot be folded"
    folded = copy.deepcopy(model)
    for layer in list(folded.modules()):
        if isinstance(layer, Stem | Bottleneck):
            _fold_numbered_pairs(layer)
        elif isinstance(layer, nn.Sequential):
            _fold_neighbours(layer)
    return folded


def _fold_numbered_pairs(layer: Stem | Bottleneck) -> None:
    """conv1 with norm1, and so on."""
    for number in (1, 2, 3):
        conv, norm = getattr(layer, f"conv{number}", None), getattr(layer, f"norm{number}", None)
        if isinstance(conv, nn.Conv2d) and norm is not None and _absorb(conv, norm):
            setattr(layer, f"norm{number}", nn.Identity())


def _fold_neighbours(layer: nn.Sequential) -> None:
    """A convolution and the normalisation right after it."""
    for position in range(len(layer) - 1):
        conv = layer[position]
        if isinstance(conv, nn.Conv2d) and _absorb(conv, layer[position + 1]):
            layer[position + 1] = nn.Identity()


def folded_weights(conv: nn.Conv2d, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias that do what a convolution and the normalisation after it do.

    Args:
        conv: With or without a bias.
        norm: Frozen or live (taken with its running statistics); any other layer counts as none.
    """
    weight = conv.weight.detach()
    bias = weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
    constants = _scale_and_shift(norm)
    if constants is None:
        return weight, bias
    scale, shift = constants
    return weight * scale.view(-1, 1, 1, 1), bias * scale + shift


def _absorb(conv: nn.Conv2d, norm: nn.Module) -> bool:
    """Put the normalisation into the convolution's weights, if it is one."""
    if _scale_and_shift(norm) is None:
        return False
    weight, bias = folded_weights(conv, norm)
    with torch.no_grad():
        conv.weight.copy_(weight)
    conv.bias = nn.Parameter(bias, requires_grad=False)
    return True


def _scale_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor] | None:
    """What a normalisation does to a channel; None for another layer."""
    if isinstance(norm, FrozenNorm):
        return norm.scale_and_shift()
    if isinstance(norm, nn.BatchNorm2d):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        return scale.detach(), (norm.bias - norm.running_mean * scale).detach()
    return None
