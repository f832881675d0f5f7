"""What detection needs of a network, whoever computes it.

Letters: B images, R regions of all images together, A anchors per cell, C classes with background,
C4 / D channels of the trunk / of a region feature, h x w cells.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from detector.config import DetectorConfig

Precision = Literal["exact", "fast"]
"""exact: fp32, the regions of the original program. fast: what the machine does fastest."""


class Engine(Protocol):
    """The parts of a detector in evaluation mode; `AttributeRCNN` itself is the plainest one.

    A map that `trunk` gives is for the other parts of the same engine: its element type and its
    memory layout are the engine's own, its shape is what is said here. Everything else is float32.
    """

    @property
    def config(self) -> DetectorConfig:
        """Settings of the network."""
        ...

    @property
    def device(self) -> torch.device:
        """Where inputs belong."""
        ...

    @property
    def feature_width(self) -> int:
        """D."""
        ...

    def describe(self) -> str:
        """A word for logs and metadata, and what else decides the numbers: "fast:bf16"."""
        ...

    def trunk(self, pixels: Tensor, /) -> Tensor:
        """(B, 3, H, W) float32 -> (B, C4, h, w)."""
        ...

    def rpn_head(self, c4: Tensor, /) -> tuple[Tensor, Tensor]:
        """(B, C4, h, w) -> logits (B, A, h, w), deltas (B, 4 * A, h, w)."""
        ...

    def anchors(self, c4: Tensor, /) -> Tensor:
        """Anchors of all cells of a map; (h * w * A, 4), order y, x, anchor."""
        ...

    def region_features(self, c4: Tensor, boxes: Sequence[Tensor], /) -> Tensor:
        """(B, C4, h, w) and B times (n, 4) boxes [network pixels] -> (R, D)."""
        ...

    def class_logits(self, features: Tensor, /) -> Tensor:
        """(R, D) -> (R, C)."""
        ...

    def box_deltas(self, features: Tensor, /) -> Tensor:
        """(R, D) -> (R, 4 * C), or (R, 8) if class-agnostic."""
        ...

    def attribute_logits(self, features: Tensor, class_ids: Tensor, /) -> Tensor:
        """(R, D), (R,) int64 -> (R, attributes)."""
        ...
