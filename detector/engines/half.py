"""The fast engine for GPUs: convolutions in bfloat16 or float16, the heads in float32.

Nothing in it asks for a particular device; on a processor it is correct, and slow.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from detector.config import DetectorConfig
from detector.folding import fold_norms
from detector.model import AttributeRCNN


class HalfEngine:
    """A detector whose trunk and last stage compute with 16 bits, channels-last."""

    def __init__(self, model: AttributeRCNN, device: str, dtype: torch.dtype) -> None:
        """Copy the model.

        Args:
            model: In evaluation mode; stays as it is.
            device: Where the network computes.
            dtype: torch.bfloat16 or torch.float16.
        """
        self._model = fold_norms(model).to(device)
        self._dtype = dtype
        for part in (self._model.trunk, self._model.res5, self._model.rpn_head):
            part.to(dtype=dtype).to(memory_format=torch.channels_last)

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
        """The element type."""
        return f"fast:torch-{'bf16' if self._dtype == torch.bfloat16 else 'fp16'}"

    def trunk(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) float32 -> (B, C4, h, w) in 16 bits, channels-last in memory."""
        c4: Tensor = self._model.trunk(
            pixels.to(dtype=self._dtype, memory_format=torch.channels_last)
        )
        return c4

    def rpn_head(self, c4: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C4, h, w) -> logits (B, A, h, w), deltas (B, 4 * A, h, w)."""
        logits, deltas = self._model.rpn_head(c4)
        return logits.float(), deltas.float()

    def anchors(self, c4: Tensor) -> Tensor:
        """Anchors of all cells of a map; (h * w * A, 4), order y, x, anchor."""
        return self._model.anchors(c4)

    def region_features(self, c4: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """(B, C4, h, w) and B times (n, 4) boxes [network pixels] -> (R, D)."""
        # corners of boxes need more than 8 bits of mantissa, so pooling is done in float32
        pooled = self._model.pool(c4.float(), boxes)
        maps: Tensor = self._model.res5(
            pooled.to(dtype=self._dtype, memory_format=torch.channels_last)
        )
        return maps.float().mean(dim=(2, 3))

    def class_logits(self, features: Tensor) -> Tensor:
        """(R, D) -> (R, C)."""
        return self._model.class_logits(features)

    def box_deltas(self, features: Tensor) -> Tensor:
        """(R, D) -> (R, 4 * C), or (R, 8) if class-agnostic."""
        return self._model.box_deltas(features)

    def attribute_logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        """(R, D), (R,) int64 -> (R, attributes)."""
        return self._model.attribute_logits(features, class_ids)
