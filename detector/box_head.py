"""Class and box of each region, from its feature.

Letters: R regions, D feature width, C classes with background.
"""

from torch import Tensor, nn

from detector.config import DetectorConfig


class BoxHead(nn.Module):
    """(R, D) -> class logits (R, C) and box deltas (R, 4 * C), rows dx, dy, dw, dh per class.

    Class-agnostic heads have 8 deltas, of which the last four count.

    Source: `specs/detector.md` 4.6.
    """

    def __init__(self, config: DetectorConfig, feature_width: int) -> None:
        super().__init__()
        self.class_logits = nn.Linear(feature_width, config.num_classes)
        self.box_deltas = nn.Linear(feature_width, 4 * config.num_box_rows)
        for layer, deviation in ((self.class_logits, 0.01), (self.box_deltas, 0.001)):
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(R, D) -> (R, C), (R, 4 * C or 8)."""
        return self.class_logits(features), self.box_deltas(features)
