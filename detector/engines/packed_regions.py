"""The stage per region ("res5"), arranged so that as little as possible is done per region.

Pooling and a 1x1 convolution without bias are both linear, so the stage's first convolution and
its shortcut run once on the map, and regions are pooled from their results; the biases come after.
With a stride the shortcut needs only every second bin. Regions go through in small groups, which
stay in the cache.

Letters: B images, R regions, C4 / D channels of the trunk / of a region feature, P / p bins per
side before / after the stride, h x w cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from detector.bin_sums import RegionShares, region_shares
from detector.config import DetectorConfig
from detector.engines.packed import (
    PackedBlock,
    PackedConv,
    PackedLinear,
    bottlenecks,
    maps_of,
    rows_of,
)
from detector.folding import folded_weights
from detector.resnext import ResNetRes5

_REGIONS_AT_ONCE = 8  # 4 to 16 are as fast: results stay in the cache, weights are read seldom


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pooled:
    """A 1x1 convolution without bias, before or after pooling; `step` is its stride in bins."""

    linear: PackedLinear
    step: int

    def __call__(
        self, shares: RegionShares, first: int, last: int, source: Tensor, *, is_on_map: bool
    ) -> Tensor:
        """Its result for the bins of some regions; `source` is that on the map, or the map."""
        bins = shares.bins(first, last, self.step).of(source)
        return bins if is_on_map else self.linear(bins)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRegions:
    """Pool, last stage, mean over bins: (B, C4, h, w) and boxes -> (R, D) float32.

    conv1, shortcut: of the first block; first_bias is conv1's, the shortcut's is in conv3
    """

    config: DetectorConfig
    width: int
    conv1: _Pooled
    first_bias: Tensor
    conv2: PackedConv
    conv3: PackedLinear
    shortcut: _Pooled
    blocks: tuple[PackedBlock, ...]

    @classmethod
    def of(cls, res5: ResNetRes5, config: DetectorConfig, dtype: torch.dtype) -> "PackedRegions":
        """The stage with its normalisation folded in."""
        first, *others = bottlenecks(res5.blocks.children())
        assert isinstance(first.shortcut, nn.Sequential)
        shortcut, shortcut_norm = first.shortcut
        assert isinstance(shortcut, nn.Conv2d)
        weight, bias = folded_weights(first.conv1, first.norm1)
        shortcut_weight, shortcut_bias = folded_weights(shortcut, shortcut_norm)
        last_weight, last_bias = folded_weights(first.conv3, first.norm3)
        return cls(
            config=config,
            width=res5.width,
            conv1=_Pooled(linear=PackedLinear.of(weight, None, dtype), step=first.conv1.stride[0]),
            first_bias=bias.to(dtype),
            conv2=PackedConv.of(first.conv2, first.norm2, dtype),
            conv3=PackedLinear.of(last_weight, last_bias + shortcut_bias, dtype),
            shortcut=_Pooled(
                linear=PackedLinear.of(shortcut_weight, None, dtype), step=shortcut.stride[0]
            ),
            blocks=tuple(PackedBlock.of(block, dtype) for block in others),
        )

    def __call__(self, c4: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """(B, C4, h, w), B times (n, 4) corners to pool [network pixels] -> (R, D) float32."""
        shares = region_shares(
            boxes,
            *c4.shape[2:],
            pooled_size=self.config.pooled_size,
            stride=self.config.anchor_stride,
            sampling_ratio=self.config.sampling_ratio,
        )
        rows = rows_of(c4)
        is_on_map = len(shares) * self.config.pooled_size**2 > 2 * len(rows)  # else it costs more
        sources = [each.linear(rows) if is_on_map else rows for each in (self.conv1, self.shortcut)]
        features = torch.empty(len(shares), self.width)
        for first in range(0, len(shares), _REGIONS_AT_ONCE):
            last = min(first + _REGIONS_AT_ONCE, len(shares))
            inner, outer = (
                each(shares, first, last, source, is_on_map=is_on_map)
                for each, source in zip((self.conv1, self.shortcut), sources, strict=True)
            )
            features[first:last] = self._stage(inner, outer, last - first)
        return features

    def _stage(self, inner: Tensor, outer: Tensor, num_regions: int) -> Tensor:
        """Bins of the first convolution (R * P * P, inner) and of the shortcut -> (R, D)."""
        inner.add_(self.first_bias).relu_()
        maps = self.conv2(_squares(inner, num_regions))
        maps = _squares(self.conv3.add_to(outer, rows_of(maps)), num_regions)
        for block in self.blocks:
            maps = block(maps)
        return maps.float().mean(dim=(2, 3))


def _squares(rows: Tensor, num_regions: int) -> Tensor:
    """(R * p * p, C) -> (R, C, p, p)."""
    side = round((len(rows) / num_regions) ** 0.5)
    return maps_of(rows, num_regions, side, side)
