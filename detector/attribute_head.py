"""Attributes of each region, given its feature and its class.

Letters: R regions, D feature width, A attributes with "no attribute" 0, K slots.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from detector.config import DetectorConfig


class AttributeHead(nn.Module):
    """(R, D) features and (R,) class ids -> (R, A) logits.

    Source: `specs/detector.md` 6.
    """

    def __init__(self, config: DetectorConfig, feature_width: int) -> None:
        super().__init__()
        self.class_embedding = nn.Embedding(config.num_classes, config.class_embedding_width)
        self.hidden = nn.Linear(
            feature_width + config.class_embedding_width, config.attribute_hidden_width
        )
        self.logits = nn.Linear(config.attribute_hidden_width, config.num_attributes)

    def forward(self, features: Tensor, class_ids: Tensor) -> Tensor:
        """(R, D) float, (R,) int64 -> (R, A)."""
        known = torch.cat((features, self.class_embedding(class_ids)), dim=1)
        logits: Tensor = self.logits(functional.relu(self.hidden(known)))
        return logits
