"""The engine of torch's own operators: for GPUs, and for processors that have no other.

Nothing in it asks for a particular device. Trunk, proposal head and last stage compute in 32 or in
16 bits, channels-last, and may be compiled; pooling and the heads stay in float32.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from detector.boxes import corners_to_pool
from detector.config import DetectorConfig
from detector.engines.compiled import Part, compiled_parts
from detector.folding import fold_norms
from detector.heads import Heads
from detector.model import AttributeRCNN
from detector.roi_align import numbered, pool_regions

_REGIONS_AT_ONCE = 256  # at full size about 2 GB in float32, however many photos share a batch
_EXAMPLE_SIDE = 96  # pixels; what is compiled serves all sizes


class TorchEngine(Heads):
    """A detector whose normalisation is folded."""

    def __init__(
        self,
        model: AttributeRCNN,
        device: str,
        dtype: torch.dtype = torch.float32,
        *,
        compile_with: str | None = None,
    ) -> None:
        """Copy the model.

        Args:
            model: In evaluation mode; stays as it is.
            device: Where the network computes.
            dtype: torch.float32, torch.bfloat16 or torch.float16.
            compile_with: A backend of `torch.compile`; None compiles nothing.
        """
        self._model = fold_norms(model).to(device)
        self._dtype = dtype
        self.box_head, self.attribute_head = self._model.box_head, self._model.attribute_head
        parts = (self._model.trunk, self._model.rpn_head, self._model.res5)
        for part in parts:
            part.to(dtype=dtype).to(memory_format=torch.channels_last)
        made: Sequence[Part] = parts
        if compile_with is not None:
            made = compiled_parts(parts, self._examples(), compile_with)
        self._trunk, self._rpn_head, self._res5 = made
        self._is_compiled = self._trunk is not self._model.trunk

    @torch.inference_mode()
    def _examples(self) -> list[Tensor]:
        """An input for trunk, proposal head and last stage."""
        side, generator = self.config.pooled_size, torch.Generator().manual_seed(0)
        pixels = 50 * torch.randn(2, 3, _EXAMPLE_SIDE, _EXAMPLE_SIDE, generator=generator)
        maps = self._of_my_kind(self._model.trunk(self._of_my_kind(pixels)))
        bins = torch.rand(2, maps.shape[1], side, side, generator=generator)
        return [self._of_my_kind(each) for each in (pixels, maps, bins)]

    def _of_my_kind(self, maps: Tensor) -> Tensor:
        """On the device, in the element type, channels-last."""
        return maps.to(self.device, self._dtype, memory_format=torch.channels_last)

    @property
    def config(self) -> DetectorConfig:
        """Settings of the network."""
        return self._model.config

    @property
    def device(self) -> torch.device:
        """Where inputs belong."""
        return self._model.device

    @property
    def feature_width(self) -> int:
        """D."""
        return self._model.feature_width

    def describe(self) -> str:
        """The element type; compiled or not is told of 16 bits, where it changes more digits."""
        if self._dtype == torch.float32:
            return "exact"
        name = "bf16" if self._dtype == torch.bfloat16 else "fp16"
        return f"fast:torch-{name}" + ("-compiled" if self._is_compiled else "")

    def trunk(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) float32 -> (B, C4, h, w) in the engine's type, channels-last in memory."""
        c4: Tensor = self._trunk(self._of_my_kind(pixels))
        return c4

    def rpn_head(self, c4: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C4, h, w) -> logits (B, A, h, w), deltas (B, 4 * A, h, w)."""
        logits, deltas = self._rpn_head(c4)
        return logits.float(), deltas.float()

    def anchors(self, c4: Tensor) -> Tensor:
        """Anchors of all cells of a map; (h * w * A, 4), order y, x, anchor."""
        return self._model.anchors(c4)

    def region_features(self, c4: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """(B, C4, h, w) and B times (n, 4) boxes [network pixels] -> (R, D)."""
        maps = c4.float()  # corners of boxes need more than 8 bits of mantissa
        regions = numbered([corners_to_pool(group, self.config) for group in boxes])
        features = maps.new_empty(len(regions), self.feature_width)
        for first in range(0, len(regions), _REGIONS_AT_ONCE):
            some = slice(first, first + _REGIONS_AT_ONCE)
            pooled = self._pooled(maps, regions[some])
            features[some] = self._res5(pooled).float().mean(dim=(2, 3))
        return features

    def _pooled(self, maps: Tensor, regions: Tensor) -> Tensor:
        """(B, C4, h, w) float32, (R, 5) -> (R, C4, P, P) in the engine's type."""
        config = self.config
        pooled = pool_regions(
            maps,
            regions,
            pooled_size=config.pooled_size,
            stride=config.anchor_stride,
            sampling_ratio=config.sampling_ratio,
        )
        return self._of_my_kind(pooled)
