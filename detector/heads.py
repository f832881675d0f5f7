"""What region features are turned into: classes, boxes, attributes; in float32 in every engine.

Letters: R regions, D feature width, C classes with background.
"""

from torch import Tensor

from detector.attribute_head import AttributeHead
from detector.box_head import BoxHead


class Heads:
    """The part of an engine that is the model's own: whoever holds the two heads inherits it."""

    __slots__ = ()
    box_head: BoxHead
    attribute_head: AttributeHead

    def class_logits(self, features: Tensor) -> Tensor:
        """(R, D) -> (R, C)."""
        logits: Tensor = self.box_head.class_logits(features)
        return logits

    def box_deltas(self, features: Tensor) -> Tensor:
        """(R, D) -> (R, 4 * C), or (R, 8) if class-agnostic."""
        deltas: Tensor = self.box_head.box_deltas(features)
        return deltas

    def attribute_logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        """(R, D), (R,) int64 -> (R, attributes)."""
        logits: Tensor = self.attribute_head(features, class_ids)
        return logits
