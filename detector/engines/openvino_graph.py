"""Our networks as OpenVINO graphs, in float or with 8-bit convolutions.

A tensor that a convolution reads in 8 bits passes a FakeQuantize node; the shortcut around a block
reads it unrounded, else every block would add its rounding to what all later ones see. Weights have
one scale per output channel; what their rounding adds to a channel on average (the channels that
are read have means) is taken off its bias. OpenVINO turns the pairs into integer arithmetic when it
compiles.

Graphs of the trunk and of the proposal head take maps of any size, the others a fixed number of
regions or cells: OpenVINO then puts more steps together and moves no channels.

Letters: B images, R regions, C channels, h x w cells, P / p bins a side before / after a stride.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from detector.efficientnet_lite0 import InvertedBottleneck, LiteC4, LiteRes5, SamePadConv
from detector.engines.quiet_openvino import openvino, ops
from detector.engines.ranges import Range
from detector.proposal_head import ProposalHead
from detector.resnext import Bottleneck, ResNetC4, ResNetRes5, Stem

Node = Any
"""A node or an output of the graph; OpenVINO's stubs do not tell them apart."""
_Bins = tuple[int, int, int]
"""Regions, and bins down and across."""

_SIX = 6.0  # where ReLU6 ends
_LARGEST_WEIGHT = 127  # of 8 bits with a sign


class GraphBuilder:
    """Writes modules with folded normalisation as graph nodes."""

    def __init__(
        self, names: Mapping[nn.Module, str], ranges: Mapping[str, Range] | None, weight_room: int
    ) -> None:
        """Prepare.

        Args:
            names: Of the convolutions, as in `ranges`.
            ranges: Of the inputs of convolutions that are to be computed in 8 bits; None for float.
            weight_room: 1, or 2 where weights may use half of their 8 bits only (processors without
                VNNI add pairs of products in 16 bits, which would run over).
        """
        self._names = names
        self._ranges = ranges or {}
        self._weight_room = weight_room
        self._rounded: dict[tuple[str, Range], Node] = {}

    def trunk(self, trunk: ResNetC4 | LiteC4) -> openvino.Model:
        """(B, 3, H, W) -> (B, h, w, C4)."""
        pixels = ops.parameter([-1, 3, -1, -1], np.float32)
        features: Node = pixels
        for part in trunk.parts():
            features = self._part(part, features)
        return openvino.Model([ops.result(_channels_last(features))], [pixels], "trunk")

    def proposal_hidden(self, head: ProposalHead) -> openvino.Model:
        """(B, h, w, C4) -> (B, h, w, C), what logits and deltas are read from."""
        c4 = ops.parameter([-1, -1, -1, head.conv.in_channels], np.float32)
        hidden = ops.relu(self.convolution(head.conv, _channels_first(c4)))
        return openvino.Model([ops.result(_channels_last(hidden))], [c4], "proposal_hidden")

    def proposal_outputs(self, head: ProposalHead) -> openvino.Model:
        """(B, h, w, C) -> logits (B, A, h, w), deltas (B, 4 * A, h, w)."""
        hidden = ops.parameter([-1, -1, -1, head.logits.in_channels], np.float32)
        maps = _channels_first(hidden)
        outputs = [self.convolution(each, maps) for each in (head.logits, head.deltas)]
        return openvino.Model([ops.result(each) for each in outputs], [hidden], "proposal_outputs")

    def res5(self, res5: ResNetRes5 | LiteRes5, in_width: int, bins: _Bins) -> openvino.Model:
        """(R, P, P, C4) -> (R, D): the last stage and the mean over its bins."""
        pooled = ops.parameter([*bins, in_width], np.float32)
        features = _channels_first(pooled)
        if isinstance(res5, LiteRes5):
            features = self._part(res5.stages, features)
            features = ops.clamp(self._sequence(res5.head, features), 0.0, _SIX)
        else:
            features = self._part(res5.blocks, features)
        mean = ops.reduce_mean(features, ops.constant(np.array([2, 3])), False)
        return openvino.Model([ops.result(mean)], [pooled], "res5")

    def map_convolution(self, convs: list[nn.Conv2d], num_cells: int) -> openvino.Model:
        """(cells, C4) -> (cells, C) of each 1x1 convolution, without its bias."""
        c4 = ops.parameter([num_cells, convs[0].in_channels], np.float32)
        maps = _channels_first(_reshaped(c4, [1, 1, num_cells, -1]))
        outputs = [
            _reshaped(_channels_last(self.convolution(conv, maps, on_map=True)), [num_cells, -1])
            for conv in convs
        ]
        return openvino.Model([ops.result(each) for each in outputs], [c4], "map_convolution")

    def res5_from_bins(self, res5: ResNetRes5, inner_bins: _Bins, bins: _Bins) -> openvino.Model:
        """The rest of the last stage after `map_convolution` and pooling.

        (R, P, P, C) of the first convolution and (R, p, p, D) of the shortcut -> (R, D). Their
        biases are added before channels come first, which then costs nothing.
        """
        first, *others = blocks_of(res5.blocks)
        shortcut = shortcut_conv(first)
        assert shortcut is not None
        inner = ops.parameter([*inner_bins, first.conv1.out_channels], np.float32)
        outer = ops.parameter([*bins, shortcut.out_channels], np.float32)
        features = ops.relu(ops.add(inner, _channels_last(self.bias(first.conv1))))
        features = ops.relu(self.convolution(first.conv2, _channels_first(features)))
        features = self.convolution(first.conv3, features)
        around = _channels_first(ops.add(outer, _channels_last(self.bias(shortcut))))
        features = ops.relu(ops.add(features, around))
        for block in others:
            features = self._bottleneck(block, features)
        mean = ops.reduce_mean(features, ops.constant(np.array([2, 3])), False)
        return openvino.Model([ops.result(mean)], [inner, outer], "res5_from_bins")

    def convolution(self, conv: nn.Conv2d, features: Node, *, on_map: bool = False) -> Node:
        """A convolution, in 8 bits where its input has a range.

        `on_map`: of every cell and without bias, because its stride and its bias come with pooling.
        """
        within = self._ranges.get(self._names[conv])
        weight = conv.weight.detach().float()
        if conv.groups > 1:
            weight = weight.reshape(conv.groups, -1, *weight.shape[1:])
        kernel: Node = ops.constant(np.ascontiguousarray(weight.numpy()))
        if within is not None:
            features = self._round(features, within)
            high = (self._weight_steps(conv) * _LARGEST_WEIGHT).view(*weight.shape[:-3], 1, 1, 1)
            bounds = (-high.numpy(), high.numpy())
            kernel = ops.fake_quantize(kernel, *bounds, *bounds, 2 * _LARGEST_WEIGHT + 1)
        before, after = _paddings(conv)
        function: Callable[..., Node] = (
            ops.group_convolution if conv.groups > 1 else ops.convolution
        )
        mode = "same_upper" if isinstance(conv, SamePadConv) else "explicit"
        result = function(
            features,
            kernel,
            [1, 1] if on_map else list(conv.stride),
            before,
            after,
            list(conv.dilation),
            mode,
        )
        bias = None if on_map else self.bias(conv)
        return result if bias is None else ops.add(result, bias)

    def bias(self, conv: nn.Conv2d) -> Node | None:
        """What is added to each channel, (1, C, 1, 1)."""
        bias = None if conv.bias is None else conv.bias.detach().float()
        within = self._ranges.get(self._names[conv])
        if within is not None:
            weight = conv.weight.detach().float()
            steps = self._weight_steps(conv).view(-1, 1, 1, 1)
            by_channel = ((weight / steps).round() * steps - weight).sum(dim=(2, 3))
            means = torch.tensor(within.means).view(conv.groups, 1, -1)
            shift = (by_channel.view(conv.groups, -1, means.shape[2]) * means).sum(dim=2).flatten()
            bias = -shift if bias is None else bias - shift
        return None if bias is None else ops.constant(bias.view(1, -1, 1, 1).numpy())

    def _round(self, features: Node, within: Range) -> Node:
        """To 8 bits and back; once for all that read the same tensor."""
        node = features.get_node() if isinstance(features, openvino.Output) else features
        key = (node.get_friendly_name(), within)
        if key not in self._rounded:
            # with a sign there is one step more below 0 than above
            low = within.low * 128 / 127
            bounds = (np.float32(low), np.float32(within.high))
            self._rounded[key] = ops.fake_quantize(features, *bounds, *bounds, 256)
        return self._rounded[key]

    def _weight_steps(self, conv: nn.Conv2d) -> Tensor:
        """Between neighbouring values of 8-bit weights, by output channel; (C,)."""
        largest = conv.weight.detach().float().abs().amax(dim=(1, 2, 3)).clamp_min(1e-20)
        return largest * (self._weight_room / _LARGEST_WEIGHT)

    def _part(self, part: nn.Module, features: Node) -> Node:
        """A stem, a block, or a sequence of blocks."""
        if isinstance(part, Stem):
            features = ops.relu(self.convolution(part.conv1, features))
            ones = [1, 1]
            return ops.max_pool(features, [2, 2], ones, ones, ones, [3, 3]).output(0)
        if isinstance(part, Bottleneck):
            return self._bottleneck(part, features)
        if isinstance(part, InvertedBottleneck):
            return self._inverted(part, features)
        assert isinstance(part, nn.Sequential), f"no graph for {type(part).__name__}"
        if any(isinstance(layer, nn.Conv2d) for layer in part):
            return self._sequence(part, features)
        for each in part:
            features = self._part(each, features)
        return features

    def _sequence(self, layers: nn.Sequential, features: Node) -> Node:
        """Convolutions, what is left of their normalisation, and ReLU6."""
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                features = self.convolution(layer, features)
            elif isinstance(layer, nn.ReLU6):
                features = ops.clamp(features, 0.0, _SIX)
            else:
                assert isinstance(layer, nn.Identity), f"no graph for {type(layer).__name__}"
        return features

    def _bottleneck(self, block: Bottleneck, features: Node) -> Node:
        """(B, in, h, w) -> (B, out, h / s, w / s)."""
        inner = ops.relu(self.convolution(block.conv1, features))
        inner = ops.relu(self.convolution(block.conv2, inner))
        outer = self.convolution(block.conv3, inner)
        shortcut = shortcut_conv(block)
        around = features if shortcut is None else self.convolution(shortcut, features)
        return ops.relu(ops.add(outer, around))

    def _inverted(self, block: InvertedBottleneck, features: Node) -> Node:
        """(B, in, h, w) -> (B, out, h / s, w / s)."""
        inner = features
        if isinstance(block.expand, nn.Sequential):
            inner = ops.clamp(self._sequence(block.expand, inner), 0.0, _SIX)
        inner = ops.clamp(self._sequence(block.depthwise, inner), 0.0, _SIX)
        narrow = self._sequence(block.project, inner)
        return ops.add(narrow, features) if block.is_residual else narrow


def blocks_of(stage: nn.Module) -> list[Bottleneck]:
    """The bottlenecks of a stage."""
    return [block for block in stage.children() if isinstance(block, Bottleneck)]


def shortcut_conv(block: Bottleneck) -> nn.Conv2d | None:
    """The convolution around a block, if there is one."""
    if not isinstance(block.shortcut, nn.Sequential):
        return None
    conv = block.shortcut[0]
    assert isinstance(conv, nn.Conv2d)
    return conv


def _channels_first(maps: Node) -> Node:
    """(B, h, w, C) -> (B, C, h, w)."""
    return ops.transpose(maps, ops.constant(np.array([0, 3, 1, 2])))


def _channels_last(maps: Node) -> Node:
    """(B, C, h, w) -> (B, h, w, C)."""
    return ops.transpose(maps, ops.constant(np.array([0, 2, 3, 1])))


def _reshaped(maps: Node, shape: list[int]) -> Node:
    """The same values in another shape; -1 is what is left."""
    return ops.reshape(maps, ops.constant(np.array(shape)), False)


def _paddings(conv: nn.Conv2d) -> tuple[list[int], list[int]]:
    """Cells added before and after, down and across; not used where the mode says `same`."""
    assert not isinstance(conv.padding, str)
    return list(conv.padding), list(conv.padding)
