"""The network: an image to regions with features, classes, boxes and attributes.

Letters: B images, R regions of all images together, A anchors per cell, C classes with background,
C4 / D channels of the trunk / of a region feature, P / p bins per side, h x w cells.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detector.anchors import anchors_on_map, configured_cell_anchors
from detector.attribute_head import AttributeHead
from detector.box_head import BoxHead
from detector.boxes import corners_to_pool
from detector.config import DetectorConfig
from detector.heads import Heads
from detector.proposal_head import ProposalHead
from detector.resnext import initialise_convolutions
from detector.roi_align import pool_regions
from detector.trunk import build_res5, build_trunk


class AttributeRCNN(nn.Module, Heads):
    """The parts of the detector; what happens between them is in `proposals` and `postprocess`.

    Attributes:
        trunk: (B, 3, H, W) -> (B, C4, h, w)
        rpn_head: (B, C4, h, w) -> logits (B, A, h, w), deltas (B, 4 * A, h, w)
        res5: (R, C4, P, P) -> (R, D, p, p)
        box_head: (R, D) -> class logits (R, C), box deltas (R, 4 * C; 8 if class-agnostic)
        attribute_head: (R, D), class ids (R,) -> logits (R, attributes)
        cell_anchors: (A, 4) float32, those of the cell at the origin; not stored with the weights

    Source: `specs/detector.md` 1 and 4.
    """

    cell_anchors: Tensor

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = build_trunk(config)
        self.res5 = build_res5(config)
        initialise_convolutions(self.trunk)
        initialise_convolutions(self.res5)
        self.rpn_head = ProposalHead(config, self.trunk.width)
        self.box_head = BoxHead(config, self.res5.width)
        self.attribute_head = AttributeHead(config, self.res5.width)
        self.register_buffer("cell_anchors", configured_cell_anchors(config), persistent=False)

    @property
    def feature_width(self) -> int:
        """D."""
        return self.res5.width

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.cell_anchors.device

    def describe(self) -> str:
        """The network as it was trained."""
        return "textbook"

    def anchors(self, c4: Tensor) -> Tensor:
        """Anchors of all cells of a map (B, C4, h, w); (h * w * A, 4), order y, x, anchor."""
        return anchors_on_map(
            self.cell_anchors, c4.shape[-2], c4.shape[-1], self.config.anchor_stride
        )

    def pool(self, c4: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """(B, C4, h, w) and B times (n, 4) boxes [network pixels] -> (R, C4, P, P)."""
        return pool_regions(
            c4,
            [corners_to_pool(group, self.config) for group in boxes],
            pooled_size=self.config.pooled_size,
            stride=self.config.anchor_stride,
            sampling_ratio=self.config.sampling_ratio,
        )

    def region_features(self, c4: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """Pool, res5, mean over bins: (B, C4, h, w), boxes -> (R, D)."""
        maps: Tensor = self.res5(self.pool(c4, boxes))
        return maps.mean(dim=(2, 3))
