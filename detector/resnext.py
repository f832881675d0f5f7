"""ResNet and ResNeXt up to stride 16 (C4), and the last stage that is applied to each region.

Letters: B images, R regions, C channels; h, w cells of the map at hand.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from detector.config import DetectorConfig
from detector.normalisation import NormKind, build_norm


class Stem(nn.Module):
    """7x7 convolution and max pool: (B, 3, H, W) -> (B, C, ceil(H/4), ceil(W/4))."""

    def __init__(self, width: int, norm: NormKind) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.norm1 = build_norm(norm, width)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, ceil(H/4), ceil(W/4))."""
        features = functional.relu(self.norm1(self.conv1(images)), inplace=True)
        return functional.max_pool2d(features, 3, stride=2, padding=1)


class Bottleneck(nn.Module):
    """1x1, 3x3 (grouped), 1x1, added to the input: (B, in, h, w) -> (B, out, h/s, w/s).

    The shortcut is a convolution exactly where the number of channels changes.

    Source: `specs/detector.md` 4.1; maskrcnn-benchmark `modeling/backbone/resnet.py`.
    """

    def __init__(
        self,
        in_width: int,
        inner_width: int,
        out_width: int,
        *,
        groups: int,
        stride: int,
        dilation: int,
        stride_in_1x1: bool,
        norm: NormKind,
    ) -> None:
        super().__init__()
        first_stride, second_stride = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = nn.Conv2d(in_width, inner_width, 1, stride=first_stride, bias=False)
        self.norm1 = build_norm(norm, inner_width)
        self.conv2 = nn.Conv2d(
            inner_width,
            inner_width,
            3,
            stride=second_stride,
            padding=dilation,
            dilation=dilation,
            groups=groups,
            bias=False,
        )
        self.norm2 = build_norm(norm, inner_width)
        self.conv3 = nn.Conv2d(inner_width, out_width, 1, bias=False)
        self.norm3 = build_norm(norm, out_width)
        self.shortcut: nn.Module = nn.Identity()
        if in_width != out_width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_width, out_width, 1, stride=stride, bias=False),
                build_norm(norm, out_width),
            )

    def forward(self, features: Tensor) -> Tensor:
        """(B, in, h, w) -> (B, out, h/s, w/s)."""
        inner = functional.relu(self.norm1(self.conv1(features)), inplace=True)
        inner = functional.relu(self.norm2(self.conv2(inner)), inplace=True)
        outer = self.norm3(self.conv3(inner)) + self.shortcut(features)
        return functional.relu(outer, inplace=True)


class ResNetC4(nn.Module):
    """Trunk: (B, 3, H, W) -> (B, C4, ceil(H/16), ceil(W/16)).

    Attributes:
        width: C4, the channels that come out.
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.stem = Stem(config.stem_width, config.norm)
        stages = []
        in_width = config.stem_width
        for number, num_blocks in enumerate(config.blocks):
            out_width = config.res2_width << number
            stages.append(
                _stage(
                    config,
                    num_blocks=num_blocks,
                    in_width=in_width,
                    inner_width=config.groups * config.width_per_group << number,
                    out_width=out_width,
                    stride=1 if number == 0 else 2,
                )
            )
            in_width = out_width
        self.stages = nn.ModuleList(stages)
        self.width = in_width

    def parts(self) -> list[nn.Module]:
        """What the image passes through in turn; training may hold the first of them still."""
        return [self.stem, *self.stages]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C4, ceil(H/16), ceil(W/16))."""
        features = images
        for part in self.parts():
            features = part(features)
        return features


class ResNetRes5(nn.Module):
    """Last stage, for pooled regions: (R, C4, P, P) -> (R, D, p, p).

    Attributes:
        width: D, the width of a region feature.
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        number = len(config.blocks)
        self.width = config.res2_width << number
        self.blocks = _stage(
            config,
            num_blocks=config.res5_blocks,
            in_width=config.res2_width << (number - 1),
            inner_width=config.res5_inner_width or config.groups * config.width_per_group << number,
            out_width=self.width,
            stride=1 if config.res5_dilation > 1 else config.res5_stride,
            dilation=config.res5_dilation,
        )

    def forward(self, pooled: Tensor) -> Tensor:
        """(R, C4, P, P) -> (R, D, p, p)."""
        features: Tensor = self.blocks(pooled)
        return features


def initialise_convolutions(module: nn.Module) -> None:
    """Random start of all convolutions below `module`: uniform, variance by fan-in.

    Source: maskrcnn-benchmark initialises with `kaiming_uniform_(a=1)`.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            if layer.bias is not None:
                torch.nn.init.zeros_(layer.bias)


def _stage(
    config: DetectorConfig,
    *,
    num_blocks: int,
    in_width: int,
    inner_width: int,
    out_width: int,
    stride: int,
    dilation: int = 1,
) -> nn.Sequential:
    """Bottlenecks of one stage; the first changes width and resolution."""
    blocks = [
        Bottleneck(
            in_width if number == 0 else out_width,
            inner_width,
            out_width,
            groups=config.groups,
            stride=stride if number == 0 else 1,
            dilation=dilation,
            stride_in_1x1=config.stride_in_1x1,
            norm=config.norm,
        )
        for number in range(num_blocks)
    ]
    return nn.Sequential(*blocks)
