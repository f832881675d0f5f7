"""Per-channel normalisation: fixed, or live while training."""

from typing import Literal

import torch
from torch import Tensor, nn


class FrozenNorm(nn.Module):
    """Scale and shift per channel by stored statistics that nothing ever changes.

    Shapes: (B, C, h, w) -> (B, C, h, w). The published networks use no epsilon at all.

    Source: `specs/detector.md` 4.1; maskrcnn-benchmark `layers/batch_norm.py`.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_channels: int, eps: float = 0.0) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_channels))
        self.register_buffer("bias", torch.zeros(num_channels))
        self.register_buffer("running_mean", torch.zeros(num_channels))
        self.register_buffer("running_var", torch.ones(num_channels))

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Factor and summand per channel, (C,) each."""
        variance = self.running_var + self.eps if self.eps else self.running_var
        scale = self.weight * variance.rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> the same, normalised."""
        scale, shift = self.scale_and_shift()
        return features * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)


NormKind = Literal["frozen", "batch"]


def build_norm(
    kind: NormKind, num_channels: int, *, frozen_eps: float = 0.0, momentum: float = 0.1
) -> nn.Module:
    """A normalisation layer of the configured kind.

    Args:
        kind: "frozen" or "batch" (live in training mode).
        num_channels: C.
        frozen_eps: Epsilon of the frozen kind; the live kind needs one and takes at least 1e-5.
        momentum: Of the live kind.
    """
    if kind == "frozen":
        return FrozenNorm(num_channels, frozen_eps)
    return nn.BatchNorm2d(num_channels, eps=max(frozen_eps, 1e-5), momentum=momentum)
