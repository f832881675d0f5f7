"""The fast engine for processors: OpenVINO, with 8-bit convolutions where ranges are known.

Letters: B images, R regions of all images together, n boxes of one image, C4 / D channels of the
trunk / of a region feature, C classes with background, h x w cells.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from detector.bin_sums import region_shares
from detector.boxes import corners_to_pool
from detector.config import DetectorConfig
from detector.engines.openvino_graph import GraphBuilder, blocks_of, shortcut_conv
from detector.engines.processor import has_bfloat16, has_vnni
from detector.engines.quiet_openvino import openvino
from detector.engines.ranges import Range, Ranges, check_ranges
from detector.folding import fold_norms
from detector.heads import Heads
from detector.model import AttributeRCNN
from detector.proposal_head import ProposalHead
from detector.resnext import ResNetRes5

_REGIONS = 8  # at once: their maps stay in the cache
_CELLS = 256  # at once, where each is computed by itself
_Request = Any  # OpenVINO's stubs leave its methods untyped


class OpenVinoEngine(Heads):
    """A detector whose convolutions OpenVINO computes; the rest is torch in float32.

    It may be used from several threads; what they ask is then computed one after the other. How
    many threads compute does not change a bit, only how the rows of a map are shared out.
    """

    def __init__(
        self,
        model: AttributeRCNN,
        arithmetic: str,
        *,
        ranges: Ranges | None = None,
        threads: int | None = None,
    ) -> None:
        """Compile.

        Args:
            model: In evaluation mode; stays as it is.
            arithmetic: "f32", "bf16" (needs a processor with it to be fast), or "int8".
            ranges: For "int8".
            threads: Of OpenVINO; None takes as many as torch has now.

        Raises:
            CheckpointError: The ranges belong to other weights.
        """
        folded = fold_norms(model)
        by_name: Mapping[str, Range] | None = None
        self._facts: str = arithmetic
        if arithmetic == "int8":
            assert ranges is not None, "int8 needs ranges"
            check_ranges(ranges, model)
            by_name = ranges.by_convolution
            self._facts = "-".join(("int8", ranges.digest, *_facts_of_processor()))
        names: dict[nn.Module, str] = {layer: name for name, layer in folded.named_modules()}
        builder = GraphBuilder(names, by_name, 1 if has_vnni() else 2)
        float_kind = "bf16" if arithmetic == "bf16" else "f32"
        compiler = _Compiler(float_kind, threads or torch.get_num_threads())
        self._trunk = compiler.compile(builder.trunk(folded.trunk))
        hidden_kind = "bf16" if arithmetic == "int8" and has_bfloat16() else float_kind
        self._proposal_head = _ProposalHead(folded.rpn_head, builder, compiler, hidden_kind)
        self._regions = _Regions(folded, builder, compiler)
        for compiled in ("trunk", "rpn_head", "res5"):  # or they would be twice in memory
            setattr(folded, compiled, nn.Identity())
        self.box_head, self.attribute_head = folded.box_head, folded.attribute_head
        self._width = model.feature_width
        self._model = folded

    @property
    def config(self) -> DetectorConfig:
        """Settings of the network."""
        return self._model.config

    @property
    def device(self) -> torch.device:
        """Where inputs belong."""
        return torch.device("cpu")

    @property
    def feature_width(self) -> int:
        """D."""
        return self._width

    def describe(self) -> str:
        """The engine, its arithmetic and its ranges, and what else decides digits."""
        return f"fast:openvino-{self._facts}"

    def trunk(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) float32 -> (B, C4, h, w), channels-last in memory."""
        return self._trunk(pixels)[0].permute(0, 3, 1, 2)

    def rpn_head(self, c4: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C4, h, w) -> logits (B, A, h, w), deltas (B, 4 * A, h, w)."""
        return self._proposal_head(c4)

    def anchors(self, c4: Tensor) -> Tensor:
        """Anchors of all cells of a map; (h * w * A, 4), order y, x, anchor."""
        return self._model.anchors(c4)

    def region_features(self, c4: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """(B, C4, h, w) and B times (n, 4) boxes [network pixels] -> (R, D)."""
        with _one_thread_of_torch():
            return self._regions(c4, [corners_to_pool(group, self.config) for group in boxes])


def _facts_of_processor() -> list[str]:
    """narrow: without VNNI weights have 7 bits; bf16: where `_ProposalHead` computes with it."""
    facts = {"narrow": not has_vnni(), "bf16": has_bfloat16()}
    return [name for name, is_so in facts.items() if is_so]


class _ProposalHead:
    """(B, C4, h, w) -> logits (B, A, h, w), deltas (B, 4 * A, h, w).

    Among 8-bit convolutions its own is in bfloat16 where the processor has it, whose errors are
    small beside those of the map. Logits are in float32 always: many anchors are nearly even, and
    with 8 bits of mantissa other ones survive suppression.
    """

    def __init__(
        self, head: ProposalHead, builder: GraphBuilder, compiler: "_Compiler", hidden_kind: str
    ) -> None:
        self._hidden = compiler.compile(builder.proposal_hidden(head), hidden_kind)
        self._outputs = compiler.compile(builder.proposal_outputs(head), "f32")

    def __call__(self, c4: Tensor) -> tuple[Tensor, Tensor]:
        logits, deltas = self._outputs(*self._hidden(c4.permute(0, 2, 3, 1)))
        return logits, deltas


class _Regions:
    """Pool, last stage, mean over bins: (B, C4, h, w) and boxes -> (R, D).

    A ResNet's first convolution and shortcut of the last stage run once on the map, if there are
    regions enough (`detector.engines.packed_regions` tells why that is the same).
    """

    def __init__(self, model: AttributeRCNN, builder: GraphBuilder, compiler: "_Compiler") -> None:
        self._config = model.config
        self._width = model.feature_width
        bins = (_REGIONS, model.config.pooled_size, model.config.pooled_size)
        plain = builder.res5(model.res5, model.trunk.width, bins)
        self._plain = compiler.compile_rows(plain, _REGIONS)
        self._on_map: _OfRows | None = None
        if isinstance(model.res5, ResNetRes5):
            first = blocks_of(model.res5.blocks)[0]
            shortcut = shortcut_conv(first)
            if shortcut is not None:
                self._steps = [first.conv1.stride[0], shortcut.stride[0]]
                on_map = builder.map_convolution([first.conv1, shortcut], _CELLS)
                self._on_map = compiler.compile_rows(on_map, _CELLS)
                inner, outer = (
                    (_REGIONS, -(-bins[1] // step), -(-bins[2] // step)) for step in self._steps
                )
                from_bins = builder.res5_from_bins(model.res5, inner, outer)
                self._from_bins = compiler.compile_rows(from_bins, _REGIONS)

    def __call__(self, c4: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """(B, C4, h, w), B times (n, 4) -> (R, D)."""
        size = self._config.pooled_size
        shares = region_shares(
            boxes,
            c4.shape[2],
            c4.shape[3],
            pooled_size=size,
            stride=self._config.anchor_stride,
            sampling_ratio=self._config.sampling_ratio,
        )
        cells = c4.permute(0, 2, 3, 1).reshape(-1, c4.shape[1])
        network, sources, steps = self._plain, [cells], [1]
        if self._on_map is not None and len(shares) * size**2 > 2 * len(cells):
            network, sources, steps = (
                self._from_bins,
                self._mapped(self._on_map, cells),
                self._steps,
            )

        def pooled(first: int) -> list[Tensor]:
            last = min(first + _REGIONS, len(shares))
            return [
                _as_squares(shares.bins(first, last, step).of(each), last - first)
                for each, step in zip(sources, steps, strict=True)
            ]

        firsts = range(0, len(shares), _REGIONS)
        features = torch.empty(len(shares), self._width)
        for first, [found] in zip(firsts, network.of_each(map(pooled, firsts)), strict=True):
            features[first : first + len(found)] = found
        return features

    @staticmethod
    def _mapped(network: "_OfRows", cells: Tensor) -> list[Tensor]:
        """(cells, C4) -> (cells, C) of both convolutions."""
        parts = network.of_each([some] for some in torch.split(cells, _CELLS))
        return [torch.cat(each) for each in zip(*parts, strict=True)]


@contextmanager
def _one_thread_of_torch() -> Iterator[None]:
    """For pooling: further ones would wait actively for their next piece, where OpenVINO's work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _as_squares(bins: Tensor, num_regions: int) -> Tensor:
    """(R * P * P, C) -> (R, P, P, C)."""
    side = round((len(bins) / num_regions) ** 0.5)
    return bins.view(num_regions, side, side, -1)


class _Network:
    """A compiled graph that several threads may call: each has a request of its own."""

    def __init__(self, compiled: openvino.CompiledModel) -> None:
        self._compiled = compiled
        self._own = threading.local()

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """All outputs, copied."""
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        _give(self._own.request, inputs)
        self._own.request.infer()
        return _taken(self._own.request)


class _OfRows:
    """A graph of a fixed number of rows (regions, cells), computed for several batches at once.

    Each batch is computed by one thread, which is quicker than all threads on every batch. Several
    threads may call it: each has requests of its own.
    """

    def __init__(self, compiled: openvino.CompiledModel, num_rows: int, at_once: int) -> None:
        self._compiled = compiled
        self._num_rows = num_rows
        self._at_once = at_once
        self._own = threading.local()

    def of_each(self, batches: Iterable[Sequence[Tensor]]) -> Iterator[list[Tensor]]:
        """All outputs of each batch, in order; a batch may have fewer rows, not more."""
        if not hasattr(self._own, "requests"):
            self._own.requests = [
                self._compiled.create_infer_request() for _ in range(self._at_once)
            ]
        free, under_way = deque(self._own.requests), deque[tuple[_Request, list[Tensor], int]]()
        try:
            for inputs in batches:
                if not free:
                    yield self._finished(under_way, free)
                request, filled = free.popleft(), [self._filled(each) for each in inputs]
                _give(request, filled)
                under_way.append((request, filled, len(inputs[0])))  # which keeps what it reads
                request.start_async()
            while under_way:
                yield self._finished(under_way, free)
        finally:  # whoever stops in the middle leaves no request at work
            for request, _, _ in under_way:
                request.wait()

    @staticmethod
    def _finished(
        under_way: "deque[tuple[_Request, list[Tensor], int]]", free: "deque[_Request]"
    ) -> list[Tensor]:
        """Outputs of the batch that was begun first."""
        request, _, num_rows = under_way.popleft()
        request.wait()
        free.append(request)
        return [each[:num_rows] for each in _taken(request)]

    def _filled(self, rows: Tensor) -> Tensor:
        """With rows of zeros up to the fixed number."""
        missing = self._num_rows - len(rows)
        padded = functional.pad(rows, (0, 0) * (rows.dim() - 1) + (0, missing)) if missing else rows
        return padded.contiguous()


def _give(request: _Request, inputs: Sequence[Tensor]) -> None:
    """Inputs of a request, not copied."""
    for number, tensor in enumerate(inputs):
        array: NDArray[np.generic] = tensor.detach().contiguous().numpy()
        request.set_input_tensor(number, openvino.Tensor(array, shared_memory=True))


def _taken(request: _Request) -> list[Tensor]:
    """All outputs of a request, copied."""
    return [torch.from_numpy(each.data.copy()) for each in request.output_tensors]


class _Compiler:
    """Compiles graphs with one precision and one number of threads."""

    def __init__(self, float_kind: str, threads: int) -> None:
        self._core = openvino.Core()
        self._threads = threads
        self._options = {
            "INFERENCE_PRECISION_HINT": float_kind,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
        }

    def compile(self, graph: openvino.Model, float_kind: str | None = None) -> _Network:
        """Make a graph ready to run by all threads; `float_kind` instead of the compiler's."""
        options = self._options | ({"INFERENCE_PRECISION_HINT": float_kind} if float_kind else {})
        return _Network(self._core.compile_model(graph, "CPU", options))

    def compile_rows(self, graph: openvino.Model, num_rows: int) -> _OfRows:
        """Make a graph ready to run on as many batches at once as there are threads."""
        options = self._options | {"NUM_STREAMS": self._threads}
        compiled = self._core.compile_model(graph, "CPU", options)
        return _OfRows(compiled, num_rows, self._threads)
