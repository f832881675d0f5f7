"""Convolutions whose weights lie as the processor wants them, with what follows fused in.

Maps are channels-last in memory, so that a 1x1 convolution is a matrix product over rows of
channels. The operators are those that torch's own compiler calls for a frozen network; unlike
`functional.conv2d` they need not rearrange the weights at every call, and they add bias and ReLU
while the result is still in the cache.

Letters: B images or regions, C channels, h x w cells, n = B * h * w rows.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from detector.folding import folded_weights
from detector.resnext import Bottleneck, ResNetC4

_TYPICAL_ROWS = 1024  # what weights are laid out for; the layout was the same from 24 to 33,750
_TYPICAL_SIDE = 56  # likewise, cells


def can_pack() -> bool:
    """Whether this build of torch has the operators."""
    has_library = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]  # torch's
    return has_library and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def rows_of(maps: Tensor) -> Tensor:
    """(B, C, h, w) -> (n, C); the same memory if channels-last."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def maps_of(rows: Tensor, batch: int, height: int, width: int) -> Tensor:
    """(n, C) -> (B, C, h, w), channels-last; the same memory."""
    return rows.view(batch, height, width, -1).permute(0, 3, 1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedLinear:
    """A matrix product over rows: (n, in) -> (n, out).

    weight: in a layout only the operator knows
    bias:   (out,), or None for none
    """

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> "PackedLinear":
        """From a weight (out, in) or (out, in, 1, 1) and a bias (out,)."""
        plain = weight.to(dtype).reshape(weight.shape[0], -1).contiguous()
        return cls(
            weight=torch.ops.mkldnn._reorder_linear_weight(plain, _TYPICAL_ROWS),
            bias=None if bias is None else bias.to(dtype),
        )

    def __call__(self, rows: Tensor, *, relu: bool = False) -> Tensor:
        """The product plus bias, cut off below 0 if asked to."""
        result: Tensor = torch.ops.mkldnn._linear_pointwise(
            rows, self.weight, self.bias, "relu" if relu else "none", [], ""
        )
        return result

    def add_to(self, other: Tensor, rows: Tensor) -> Tensor:
        """ReLU of `other` (n, out) plus the product."""
        total: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            rows, other, self.weight, self.bias, "add"
        )
        return total.relu_()


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedConv:
    """A convolution with ReLU for inference: (B, in, h, w) -> (B, out, h / stride, w / stride).

    weight: grouped ones in a layout only the operator knows; for others that depends on the size
            of the map, and rearranging costs less than finding another layout
    """

    weight: Tensor
    bias: Tensor
    padding: list[int]
    stride: list[int]
    dilation: list[int]
    groups: int

    @classmethod
    def of(cls, conv: nn.Conv2d, norm: nn.Module, dtype: torch.dtype) -> "PackedConv":
        """A convolution and the normalisation after it, in one."""
        weight, bias = folded_weights(conv, norm)
        assert not isinstance(conv.padding, str)
        padding, stride, dilation = list(conv.padding), list(conv.stride), list(conv.dilation)
        weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
        if conv.groups > 1:
            typical = [1, conv.in_channels, _TYPICAL_SIDE, _TYPICAL_SIDE]
            weight = torch.ops.mkldnn._reorder_convolution_weight(
                weight, padding, stride, dilation, conv.groups, typical
            )
        return cls(
            weight=weight,
            bias=bias.to(dtype),
            padding=padding,
            stride=stride,
            dilation=dilation,
            groups=conv.groups,
        )

    def __call__(self, maps: Tensor) -> Tensor:
        """ReLU of the convolution plus bias."""
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            maps,
            self.weight,
            self.bias,
            self.padding,
            self.stride,
            self.dilation,
            self.groups,
            "relu",
            [],
            "",
        )
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedBlock:
    """A bottleneck for inference.

    first_step, shortcut_step: strides of the two 1x1 convolutions
    """

    conv1: PackedLinear
    conv2: PackedConv
    conv3: PackedLinear
    shortcut: PackedLinear | None
    first_step: int
    shortcut_step: int

    @classmethod
    def of(cls, block: Bottleneck, dtype: torch.dtype) -> "PackedBlock":
        """A block with its normalisation folded in."""
        shortcut, shortcut_step = None, 1
        if isinstance(block.shortcut, nn.Sequential):
            conv, norm = block.shortcut
            assert isinstance(conv, nn.Conv2d)
            shortcut = PackedLinear.of(*folded_weights(conv, norm), dtype)
            shortcut_step = conv.stride[0]
        return cls(
            conv1=PackedLinear.of(*folded_weights(block.conv1, block.norm1), dtype),
            conv2=PackedConv.of(block.conv2, block.norm2, dtype),
            conv3=PackedLinear.of(*folded_weights(block.conv3, block.norm3), dtype),
            shortcut=shortcut,
            first_step=block.conv1.stride[0],
            shortcut_step=shortcut_step,
        )

    def __call__(self, maps: Tensor) -> Tensor:
        """(B, in, h, w) -> (B, out, h / s, w / s)."""
        before = maps[:, :, :: self.first_step, :: self.first_step]
        inner = self.conv1(rows_of(before), relu=True)
        inner = self.conv2(maps_of(inner, len(maps), *before.shape[2:]))
        outer = rows_of(maps[:, :, :: self.shortcut_step, :: self.shortcut_step])
        if self.shortcut is not None:
            outer = self.shortcut(outer)
        return maps_of(self.conv3.add_to(outer, rows_of(inner)), len(maps), *inner.shape[2:])


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedTrunk:
    """`ResNetC4` for inference: (B, 3, H, W) -> (B, C4, ceil(H/16), ceil(W/16))."""

    stem: PackedConv
    blocks: tuple[PackedBlock, ...]

    @classmethod
    def of(cls, trunk: ResNetC4, dtype: torch.dtype) -> "PackedTrunk":
        """A trunk with its normalisation folded in."""
        return cls(
            stem=PackedConv.of(trunk.stem.conv1, trunk.stem.norm1, dtype),
            blocks=tuple(
                PackedBlock.of(block, dtype)
                for block in bottlenecks(
                    layer for stage in trunk.stages for layer in stage.children()
                )
            ),
        )

    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C4, h, w), channels-last."""
        maps = self.stem(pixels.contiguous(memory_format=torch.channels_last))
        maps = functional.max_pool2d(maps, 3, stride=2, padding=1)
        for block in self.blocks:
            maps = block(maps)
        return maps


def bottlenecks(layers: Iterable[nn.Module]) -> list[Bottleneck]:
    """Layers of a stage, which are nothing else."""
    return [layer for layer in layers if isinstance(layer, Bottleneck)]
