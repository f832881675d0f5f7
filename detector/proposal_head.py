"""The proposal network: is there an object at each anchor, and how far off.

Letters: B images, A anchors per cell, h x w cells of C4.
"""

from torch import Tensor, nn
from torch.nn import functional

from detector.config import DetectorConfig


class ProposalHead(nn.Module):
    """C4 -> logits (B, A, h, w) and deltas (B, 4 * A, h, w), channel = anchor * 4 + number.

    Source: `specs/detector.md` 4.2.
    """

    def __init__(self, config: DetectorConfig, trunk_width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(trunk_width, trunk_width, 3, padding=1)
        self.logits = nn.Conv2d(trunk_width, config.num_anchors, 1)
        self.deltas = nn.Conv2d(trunk_width, 4 * config.num_anchors, 1)
        for layer in (self.conv, self.logits, self.deltas):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, c4: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C4, h, w) -> (B, A, h, w), (B, 4 * A, h, w)."""
        hidden = functional.relu(self.conv(c4), inplace=True)
        return self.logits(hidden), self.deltas(hidden)
