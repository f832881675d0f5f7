"""Parts of our detector for detectron2, registered there under the names of `PARTS`.

Importing this module needs detectron2. Letters: n proposals of one image, R regions of all images
together, C classes with background, D feature width.

Boxes inside detectron2 have x2 and y2 outside the box: one more than ours.
Source: `specs/detector.md` 10.1; detectron2 `modeling/`.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import ANCHOR_GENERATOR_REGISTRY, DefaultAnchorGenerator
from detectron2.modeling.backbone.resnet import BottleneckBlock, ResNet
from detectron2.modeling.proposal_generator import PROPOSAL_GENERATOR_REGISTRY, RPN
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, Res5ROIHeads
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import nms

from detector.anchors import cell_anchors
from detector.attributes import keep_attributes
from detector.boxes import clip
from detector.compat import Compat
from detector.config import DetectorConfig, RegionRules
from detector.constants import ANCHOR_STRIDE
from detector.postprocess import Kept, keep_regions

_OUTSIDE = (0.0, 0.0, 1.0, 1.0)  # of detectron2's corners beyond ours


def to_inclusive(boxes: Tensor) -> Tensor:
    """Boxes of detectron2 to ours."""
    return boxes - boxes.new_tensor(_OUTSIDE)


def from_inclusive(boxes: Tensor) -> Tensor:
    """Our boxes to those of detectron2."""
    return boxes + boxes.new_tensor(_OUTSIDE)


@ANCHOR_GENERATOR_REGISTRY.register()
class OscarAnchorGenerator(DefaultAnchorGenerator):  # type: ignore[misc]  # detectron2 is untyped
    """Rounded anchors, in the middle of their cell; in detectron2's order, size by size."""

    def generate_cell_anchors(
        self, sizes: Sequence[float] = (), aspect_ratios: Sequence[float] = ()
    ) -> Tensor:
        """(A, 4) float32 of the cell at the origin."""
        self.num_ratios = len(aspect_ratios)
        by_ratio = cell_anchors(sizes, aspect_ratios, ANCHOR_STRIDE)
        by_size = by_ratio.view(len(aspect_ratios), len(sizes), 4).transpose(0, 1)
        return from_inclusive(by_size.reshape(-1, 4))


@PROPOSAL_GENERATOR_REGISTRY.register()
class OscarRPN(RPN):  # type: ignore[misc]  # detectron2 is untyped
    """Proposals as the published program takes them; training is detectron2's.

    Overlap is counted between inclusive corners, boxes that lie outside stay, without area, and
    of equal scores (a sure network gives many of exactly 1) the same come first.
    """

    def predict_proposals(
        self,
        anchors: list[Any],
        pred_objectness_logits: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Any]:
        """Proposals of each image, by falling score."""
        with torch.no_grad():
            (moved,) = self._decode_proposals(anchors, pred_anchor_deltas)
            moved = self._ratio_by_ratio(moved)
            scores = self._ratio_by_ratio(pred_objectness_logits[0]).sigmoid()
            num = min(self.pre_nms_topk[self.training], scores.shape[1])
            top_scores, top = scores.topk(num, dim=1)
            boxes = to_inclusive(moved.gather(1, top[..., None].expand(-1, -1, 4)))
            return [
                self._kept(clip(own, *size), own_scores, size)
                for own, own_scores, size in zip(boxes, top_scores, image_sizes, strict=True)
            ]

    def _ratio_by_ratio(self, values: Tensor) -> Tensor:
        """(B, h * w * A, ...), anchors of a cell in detectron2's order, in the published one."""
        ratios: int = self.anchor_generator.num_ratios
        sizes = self.anchor_generator.num_anchors[0] // ratios
        cells = values.view(len(values), -1, sizes, ratios, *values.shape[2:])
        return cells.transpose(2, 3).reshape(values.shape)

    def _kept(self, boxes: Tensor, scores: Tensor, size: tuple[int, int]) -> Any:
        is_large = (boxes[:, 2:] - boxes[:, :2] + 1 >= self.min_box_size).all(dim=1)
        boxes, scores = boxes[is_large], scores[is_large]
        best = nms(boxes, scores, self.nms_thresh)[: self.post_nms_topk[self.training]]
        proposals = Instances(size)
        proposals.proposal_boxes = Boxes(from_inclusive(boxes[best]))
        proposals.objectness_logits = scores[best].logit()
        return proposals


class AttributeHead(nn.Module):
    """Attributes from a region's feature and its class; the graph of `detector.attribute_head`.

    The last row of the embedding is the background, "no attribute" is row 0 of the logits.
    """

    def __init__(self, cfg: CfgNode, feature_width: int) -> None:
        super().__init__()
        head = cfg.MODEL.ROI_ATTRIBUTE_HEAD
        self.class_embedding = nn.Embedding(cfg.MODEL.ROI_HEADS.NUM_CLASSES + 1, head.OBJ_EMBED_DIM)
        self.hidden = nn.Linear(feature_width + head.OBJ_EMBED_DIM, head.FC_DIM)
        self.logits = nn.Linear(head.FC_DIM, head.NUM_CLASSES)

    def forward(self, features: Tensor, classes: Tensor) -> Tensor:
        """(R, D) and (R,) classes from 0 -> (R, attributes)."""
        known = torch.cat((features, self.class_embedding(classes)), dim=1)
        logits: Tensor = self.logits(functional.relu(self.hidden(known)))
        return logits


@ROI_HEADS_REGISTRY.register()
class OscarRes5ROIHeads(Res5ROIHeads):  # type: ignore[misc]  # detectron2 is untyped
    """Res5 on each region, our filters instead of detectron2's, features and attributes beside.

    Detections are `Instances` with pred_boxes, scores, pred_classes, and for each of them
    features (k, D), proposal_index (k,), attribute_ids and attribute_scores (k, slots).
    """

    @configurable  # type: ignore[untyped-decorator]  # detectron2 is untyped
    def __init__(
        self, *, attribute_head: nn.Module, config: DetectorConfig, inclusive: bool, **others: Any
    ) -> None:
        super().__init__(**others)
        self.attribute_head = attribute_head
        self.config = config
        self.inclusive = inclusive

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Arguments of the constructor."""
        arguments: dict[str, Any] = super().from_config(cfg, input_shape)
        rules = {f.name: cfg.MODEL.REGIONS[f.name.upper()] for f in fields(RegionRules)}
        width = arguments["box_predictor"].cls_score.in_features
        config = DetectorConfig(
            num_classes=cfg.MODEL.ROI_HEADS.NUM_CLASSES + 1,
            num_attributes=cfg.MODEL.ROI_ATTRIBUTE_HEAD.NUM_CLASSES,
            class_agnostic_boxes=cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG,
            box_weights=tuple(cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS),
            regions=RegionRules(**rules),
        )
        return arguments | {
            "attribute_head": AttributeHead(cfg, width),
            "config": config,
            "inclusive": cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE == "ROIAlign",
        }

    @classmethod
    def _build_res5_block(cls, cfg: CfgNode) -> tuple[nn.Module, int]:
        """Res5, which detectron2's own head does not dilate."""
        resnet = cfg.MODEL.RESNETS
        width = 8 * resnet.RES2_OUT_CHANNELS
        dilation = resnet.RES5_DILATION
        blocks = ResNet.make_stage(
            BottleneckBlock,
            3,
            stride_per_block=[1 if dilation > 1 else 2, 1, 1],
            in_channels=width // 2,
            bottleneck_channels=8 * resnet.NUM_GROUPS * resnet.WIDTH_PER_GROUP,
            out_channels=width,
            num_groups=resnet.NUM_GROUPS,
            norm=resnet.NORM,
            stride_in_1x1=resnet.STRIDE_IN_1X1,
            dilation=dilation,
        )
        return nn.Sequential(*blocks), width

    def region_features(self, features: dict[str, Tensor], boxes: list[Any]) -> Tensor:
        """(B, C4, h, w) and boxes of detectron2 -> (R, D)."""
        if self.inclusive:
            boxes = [Boxes(to_inclusive(group.tensor)) for group in boxes]
        maps: Tensor = self._shared_roi_transform([features[f] for f in self.in_features], boxes)
        return maps.mean(dim=(2, 3))

    def forward(
        self,
        images: Any,
        features: dict[str, Tensor],
        proposals: list[Any],
        targets: list[Any] | None = None,
    ) -> tuple[list[Any], dict[str, Tensor]]:
        """Detections of each image; in training detectron2's own losses (none of attributes)."""
        if self.training:
            losses: tuple[list[Any], dict[str, Tensor]]
            losses = super().forward(images, features, proposals, targets)
            return losses
        boxes = [proposal.proposal_boxes for proposal in proposals]
        pooled = self.region_features(features, boxes)
        logits, deltas = self.box_predictor(pooled)
        counts = [len(group) for group in boxes]
        parts = (torch.split(tensor, counts) for tensor in (pooled, logits, deltas))
        found = [
            self._found(own_pooled, own_logits, own_deltas, proposal)
            for own_pooled, own_logits, own_deltas, proposal in zip(*parts, proposals, strict=True)
        ]
        self._name_attributes(features, found)
        return found, {}

    def _found(self, pooled: Tensor, logits: Tensor, deltas: Tensor, proposal: Any) -> Any:
        """Detections of one image without attributes."""
        boxes = proposal.proposal_boxes.tensor
        kept = self.keep(logits, deltas, to_inclusive(boxes), proposal.image_size)
        found = Instances(proposal.image_size)
        found.pred_boxes = Boxes(from_inclusive(kept.boxes))
        found.scores = kept.scores
        found.pred_classes = kept.class_ids - 1
        found.features = pooled[kept.proposals]
        found.proposal_index = kept.proposals
        return found

    def keep(self, logits: Tensor, deltas: Tensor, boxes: Tensor, size: tuple[int, int]) -> Kept:
        """Our filter: (n, C) and (n, 4 * (C - 1)) of detectron2, (n, 4) inclusive boxes."""
        moves = torch.cat((torch.zeros_like(deltas[:, :4]), deltas), dim=1)
        return keep_regions(
            logits.roll(1, dims=1),
            moves if self.config.regions.regress_boxes else None,
            boxes,
            size,
            self.config,
            self.config.regions,
            Compat(),
        )

    def _name_attributes(self, features: dict[str, Tensor], found: list[Any]) -> None:
        """Attributes of the final boxes, added to the detections."""
        rules = self.config.regions
        again = rules.regress_boxes and rules.pool_attributes_again
        pooled = (
            self.region_features(features, [each.pred_boxes for each in found])
            if again
            else torch.cat([each.features for each in found])
        )
        classes = torch.cat([each.pred_classes for each in found])
        logits = torch.split(self.attribute_head(pooled, classes), [len(each) for each in found])
        for each, own in zip(found, logits, strict=True):
            kept = keep_attributes(own, rules, Compat())
            each.attribute_logits = own
            each.attribute_ids, each.attribute_scores = kept.ids, kept.scores
