"""Learns on standardised region inputs without changing what the model is.

A small model on few images learns much faster from inputs of mean 0 and deviation 1. The map is
linear, so it folds into the region projection: the stored model reads plain inputs.

Letters: F region input width, H hidden width.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from oscar_core.encoder import OscarEncoder
from oscar_core.errors import TrainingError

_SMALLEST_DEVIATION = 1e-3
"""Inputs that hardly vary are not blown up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Mean and deviation of each region input, (F,) float32."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]


def measure_spread(regions: Iterable[NDArray[np.float32]]) -> Spread:
    """Mean and deviation over all regions of all images, one pass.

    Args:
        regions: (N, F) an image.

    Raises:
        TrainingError: No region at all.
    """
    total = squares = np.zeros(1)
    num = 0
    for rows in regions:
        exact = rows.astype(np.float64)
        total = total + exact.sum(axis=0)
        squares = squares + (exact**2).sum(axis=0)
        num += len(rows)
    if num == 0:
        raise TrainingError("no region to measure; are all photos quarantined?")
    mean = total / num
    deviation = np.sqrt(np.maximum(squares / num - mean**2, 0))
    deviation = np.where(deviation < _SMALLEST_DEVIATION, 1.0, deviation)
    return Spread(mean=mean.astype(np.float32), deviation=deviation.astype(np.float32))


class StandardisedProjection(nn.Linear):
    """A region projection whose weights speak of standardised inputs."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, plain: nn.Linear, spread: Spread) -> None:
        super().__init__(plain.in_features, plain.out_features)
        self.register_buffer("mean", torch.from_numpy(spread.mean.copy()))
        self.register_buffer("deviation", torch.from_numpy(spread.deviation.copy()))

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., F) -> (..., H)."""
        return functional.linear((inputs - self.mean) / self.deviation, self.weight, self.bias)


@torch.no_grad()
def standardise(encoder: OscarEncoder, spread: Spread, *, is_new: bool) -> None:
    """Put a standardised projection in place of the plain one.

    Args:
        encoder: Changed in place.
        spread: Of its inputs.
        is_new: The drawn weights count as weights on standardised inputs; else they are turned so
            that the encoder computes what it did.
    """
    plain = encoder.region_projection
    projection = StandardisedProjection(plain, spread)
    if is_new:
        projection.weight.copy_(plain.weight)
        projection.bias.copy_(plain.bias)
    else:
        projection.weight.copy_(plain.weight * projection.deviation)
        projection.bias.copy_(plain.bias + plain.weight @ projection.mean)
    encoder.region_projection = projection


@torch.no_grad()
def fold(encoder: OscarEncoder) -> None:
    """Put the plain projection back, computing the same; nothing happens to a plain one."""
    projection = encoder.region_projection
    if not isinstance(projection, StandardisedProjection):
        return
    plain = nn.Linear(projection.in_features, projection.out_features)
    plain.weight.copy_(projection.weight / projection.deviation)
    plain.bias.copy_(projection.bias - plain.weight @ projection.mean)
    encoder.region_projection = plain
