"""EfficientNet-Lite0: layers up to stride 16 as trunk (C4), the rest as the stage per region.

Letters: B images, R regions; h, w cells of the map at hand.
Source of the layout: EfficientNet (arXiv 1905.11946) table 1 in its Lite0 form: no squeeze and
excitation, ReLU6, stem and head of fixed width, "same" padding as TensorFlow does it.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from detector.normalisation import NormKind, build_norm

_EPS = 1e-3  # of its batch normalisation
_MOMENTUM = 0.01
_STEM_WIDTH = 32
_HEAD_WIDTH = 1280


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    num_blocks: int
    kernel: int
    stride: int
    expansion: int
    width: int


_C4_STAGES = (
    _Stage(num_blocks=1, kernel=3, stride=1, expansion=1, width=16),
    _Stage(num_blocks=2, kernel=3, stride=2, expansion=6, width=24),
    _Stage(num_blocks=2, kernel=5, stride=2, expansion=6, width=40),
    _Stage(num_blocks=3, kernel=3, stride=2, expansion=6, width=80),
    _Stage(num_blocks=3, kernel=5, stride=1, expansion=6, width=112),
)
_RES5_STAGES = (
    _Stage(num_blocks=4, kernel=5, stride=2, expansion=6, width=192),
    _Stage(num_blocks=1, kernel=3, stride=1, expansion=6, width=320),
)


class SamePadConv(nn.Conv2d):
    """Convolution whose output has ceil(n / stride) cells; padding short by one goes first.

    For an even side, kernel 3 and stride 2 that means no padding before and one after.
    """

    def __init__(
        self, in_width: int, out_width: int, kernel: int, stride: int, groups: int
    ) -> None:
        super().__init__(in_width, out_width, kernel, stride=stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """(B, in, h, w) -> (B, out, ceil(h / stride), ceil(w / stride))."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        down, across = (
            max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in input.shape[-2:]
        )
        if down % 2 == 0 and across % 2 == 0:
            padding = (down // 2, across // 2)
            return functional.conv2d(
                input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
            )
        padded = functional.pad(
            input, (across // 2, across - across // 2, down // 2, down - down // 2)
        )
        return functional.conv2d(
            padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups
        )


class InvertedBottleneck(nn.Module):
    """Widen by 1x1, depth-wise convolution, narrow by 1x1; added to the input if shapes agree."""

    def __init__(self, in_width: int, stage: _Stage, stride: int, norm: NormKind) -> None:
        super().__init__()
        inner_width = in_width * stage.expansion
        self.expand: nn.Module = nn.Identity()
        if stage.expansion > 1:
            self.expand = _conv_norm(in_width, inner_width, 1, norm)
        self.depthwise = _conv_norm(
            inner_width, inner_width, stage.kernel, norm, stride=stride, groups=inner_width
        )
        self.project = _conv_norm(inner_width, stage.width, 1, norm)
        self.is_residual = stride == 1 and in_width == stage.width

    def forward(self, features: Tensor) -> Tensor:
        """(B, in, h, w) -> (B, out, ceil(h/s), ceil(w/s))."""
        inner = features
        if not isinstance(self.expand, nn.Identity):
            inner = functional.relu6(self.expand(features))
        narrow: Tensor = self.project(functional.relu6(self.depthwise(inner)))
        return narrow + features if self.is_residual else narrow


class LiteC4(nn.Module):
    """Trunk: (B, 3, H, W) -> (B, 112, ceil(H/16), ceil(W/16))."""

    width = _C4_STAGES[-1].width

    def __init__(self, norm: NormKind) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *_conv_norm(3, _STEM_WIDTH, 3, norm, stride=2), nn.ReLU6(inplace=True)
        )
        self.stages = nn.ModuleList(_build_stages(_C4_STAGES, _STEM_WIDTH, norm))

    def parts(self) -> list[nn.Module]:
        """What the image passes through in turn; training may hold the first of them still."""
        return [self.stem, *self.stages]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 112, ceil(H/16), ceil(W/16))."""
        features = images
        for part in self.parts():
            features = part(features)
        return features


class LiteRes5(nn.Module):
    """Last stages and head convolution: (R, 112, P, P) -> (R, 1280, ceil(P/2), ceil(P/2))."""

    width = _HEAD_WIDTH

    def __init__(self, norm: NormKind) -> None:
        super().__init__()
        self.stages = nn.Sequential(*_build_stages(_RES5_STAGES, LiteC4.width, norm))
        self.head = _conv_norm(_RES5_STAGES[-1].width, _HEAD_WIDTH, 1, norm)

    def forward(self, pooled: Tensor) -> Tensor:
        """(R, 112, P, P) -> (R, 1280, p, p)."""
        return functional.relu6(self.head(self.stages(pooled)))


def _conv_norm(
    in_width: int, out_width: int, kernel: int, norm: NormKind, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution and normalisation."""
    return nn.Sequential(
        SamePadConv(in_width, out_width, kernel, stride, groups),
        build_norm(norm, out_width, frozen_eps=_EPS, momentum=_MOMENTUM),
    )


def _build_stages(stages: tuple[_Stage, ...], in_width: int, norm: NormKind) -> list[nn.Sequential]:
    """One sequence of blocks per stage; the first block changes width and resolution."""
    built = []
    for stage in stages:
        blocks = []
        for number in range(stage.num_blocks):
            blocks.append(
                InvertedBottleneck(in_width, stage, stage.stride if number == 0 else 1, norm)
            )
            in_width = stage.width
        built.append(nn.Sequential(*blocks))
    return built
