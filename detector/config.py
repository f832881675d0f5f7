"""Settings of the detector: network, input, proposals, and which regions are kept.

Defaults are the published X152-C4 of VinVL (`specs/detector.md` 2.1); the presets below name
only what differs. Overlaps are intersection over union.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from typing import Literal

from detector.constants import (
    ANCHOR_STRIDE,
    IMAGENET_MEAN_RGB,
    IMAGENET_STD_RGB,
    NUM_ATTRIBUTES,
    NUM_CLASSES,
    PIXEL_MEAN_BGR,
    REGION_WEIGHTS,
)
from detector.errors import DetectorConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionRules:
    """Which regions and attributes of an image are kept, after the network has spoken.

    filter:                  1: each proposal at most once, per-class suppression at 0.3 (the
                             published features); 0: classic per class; 2: one suppression for all
    score_threshold:         regions at or above it count (filter 0: above it)
    min_regions, max_regions: bounds on their number, as far as there are proposals; the
                             latter wins
    nms_overlap:             suppression of filters 0 and 2
    regress_boxes:           boxes are refined by the class's deltas; features stay those of the
                             proposals. Off: proposal, box and feature agree (as published)
    pool_attributes_again:   attributes are read from a second pooling of the final boxes, as
                             published. Off: from the features of the proposals, as in training;
                             the same where boxes are not refined
    attribute_threshold:     attributes need more than this probability
    max_attributes_per_region: slots
    max_attributes_per_image: the best so many of an image; 0 = no limit. The published setting
                             is 100, which has no effect there (`compat.py`)
    """

    filter: Literal[0, 1, 2] = 1
    score_threshold: float = 0.2
    min_regions: int = 10
    max_regions: int = 100
    nms_overlap: float = 0.5
    regress_boxes: bool = False
    pool_attributes_again: bool = True
    attribute_threshold: float = 0.05
    max_attributes_per_region: int = 16
    max_attributes_per_image: int = 0

    def __post_init__(self) -> None:
        """Refuse bounds that cannot be met, and filters that do not exist."""
        if self.filter not in (0, 1, 2):
            raise DetectorConfigError(f"regions: no filter {self.filter}; there are 0, 1, 2")
        if self.min_regions < 0 or self.max_regions < 1:
            raise DetectorConfigError("regions: need `min_regions` >= 0 and `max_regions` >= 1")
        if self.max_attributes_per_region < 1:
            raise DetectorConfigError("regions: `max_attributes_per_region` must be at least 1")
        for name in ("score_threshold", "nms_overlap", "attribute_threshold"):
            if not isfinite(getattr(self, name)):
                raise DetectorConfigError(f"regions: `{name}` must be a finite number")


RulesName = Literal["vinvl_released", "vinvl_readme"]
RULES: dict[RulesName, RegionRules] = {
    "vinvl_released": RegionRules(),
    "vinvl_readme": RegionRules(max_attributes_per_image=100),
}
"""`vinvl_released` made the features that VinVL published: filter 1 at 0.2, 10 to 100 regions,
boxes not refined, a photo at a time. `vinvl_readme` is the command in the README of
scene_graph_benchmark: the same regions, and the published cap on attributes with its quirks
(`compat.quirks_of`). That command also pads photos in pairs, which is not repeated here.

Source: `specs/detector.md` 2.2 and 6."""


def rules_of(choice: RegionRules | str) -> RegionRules:
    """Rules that were chosen by name, or as they are.

    Raises:
        DetectorConfigError: No rules have that name.
    """
    if isinstance(choice, RegionRules):
        return choice
    for name, rules in RULES.items():
        if name == choice:
            return rules
    raise DetectorConfigError(f"no region rules {choice!r}; there are {', '.join(RULES)}")


def describe_rules(rules: RegionRules) -> str:
    """One line for metadata and logs: the name of the rules, or "own", and all values."""
    name = next((name for name, each in RULES.items() if each == rules), "own")
    return f"{name} {json.dumps(asdict(rules), sort_keys=True)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorConfig:
    """One detector; everything that is needed to build it and to run it.

    trunk:             "resnet_c4" (ResNet or ResNeXt) or "efficientnet_lite0", whose layers are
                       fixed: `blocks`, widths, groups and strides below do not apply to it
    norm:              "frozen": fixed statistics and scale; "batch": live BatchNorm while in
                       training mode, the same sums as "frozen" in evaluation mode
    blocks:            bottlenecks at strides 4, 8, 16
    stem_width, res2_width: channels after the stem and at stride 4; doubled at each later stage
    groups, width_per_group: of the 3x3 convolutions at stride 4; the width doubles likewise
    stride_in_1x1:     the stage's stride lies in the first convolution instead of the 3x3
    res5_blocks:       bottlenecks applied to each region
    res5_inner_width:  channels of their 3x3; 0 = twice those at stride 16
    res5_stride:       of the first of them; a dilation above 1 makes it 1
    res5_dilation:     of their 3x3
    pooled_size:       bins per side that a region is pooled to
    sampling_ratio:    sample points per bin and axis; 0 = as many as cells the bin covers
    anchor_sizes, aspect_ratios: of the anchors [pixels; height / width]
    conventions:       "maskrcnn": anchors are rounded and lie in the middle of their cell, regions
                       are pooled from their corners as they are (the published detectors, Caffe2);
                       "detectron2": anchors are not rounded and lie on the corner of their cell,
                       regions are pooled half a cell further up and left (detectron2's model zoo)
    pre_nms_top_n, post_nms_top_n: proposals before and after suppression
    proposal_nms_overlap, proposal_min_size: suppression; smallest side kept [pixels]
    num_classes:       with background 0
    num_attributes:    with "no attribute" 0
    class_agnostic_boxes: one refined box for all classes
    box_weights:       divisors of the box deltas dx, dy, dw, dh
    min_size, max_size: short and longest side that images are resized to [pixels]
    channel_order, pixel_mean, pixel_std: input is (pixel - mean) / std, pixels 0..255
    regions:           which regions are kept
    """

    trunk: Literal["resnet_c4", "efficientnet_lite0"] = "resnet_c4"
    norm: Literal["frozen", "batch"] = "frozen"
    blocks: tuple[int, int, int] = (3, 8, 36)
    stem_width: int = 64
    res2_width: int = 256
    groups: int = 32
    width_per_group: int = 8
    stride_in_1x1: bool = False
    res5_blocks: int = 3
    res5_inner_width: int = 0
    res5_stride: int = 2
    res5_dilation: int = 1
    pooled_size: int = 14
    sampling_ratio: int = 0
    anchor_sizes: tuple[float, ...] = (32, 64, 128, 256, 512)
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    conventions: Literal["maskrcnn", "detectron2"] = "maskrcnn"
    pre_nms_top_n: int = 6000
    post_nms_top_n: int = 300
    proposal_nms_overlap: float = 0.7
    proposal_min_size: int = 0
    num_classes: int = NUM_CLASSES
    num_attributes: int = NUM_ATTRIBUTES
    class_embedding_width: int = 256
    attribute_hidden_width: int = 512
    class_agnostic_boxes: bool = False
    box_weights: tuple[float, float, float, float] = REGION_WEIGHTS
    min_size: int = 600
    max_size: int = 1000
    channel_order: Literal["bgr", "rgb"] = "bgr"
    pixel_mean: tuple[float, float, float] = PIXEL_MEAN_BGR
    pixel_std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    regions: RegionRules = field(default_factory=RegionRules)

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if self.num_classes < 2 or self.num_attributes < 2:
            raise DetectorConfigError(
                "detector: `num_classes` and `num_attributes` count the background, need 2 or more"
            )
        if min(self.min_size, self.max_size, self.pooled_size, self.res5_blocks) < 1:
            raise DetectorConfigError("detector: sizes and block counts must be at least 1")
        if min(self.pre_nms_top_n, self.post_nms_top_n) < 1:
            raise DetectorConfigError(
                "detector: `pre_nms_top_n`, `post_nms_top_n` must be 1 or more"
            )
        if not self.anchor_sizes or not self.aspect_ratios:
            raise DetectorConfigError("detector: `anchor_sizes` and `aspect_ratios` must not be []")
        for name in ("anchor_sizes", "aspect_ratios", "pixel_std", "box_weights"):
            if not all(isfinite(each) and each > 0 for each in getattr(self, name)):
                raise DetectorConfigError(f"detector: `{name}` must be finite numbers above 0")

    @property
    def num_anchors(self) -> int:
        """Anchors per cell."""
        return len(self.anchor_sizes) * len(self.aspect_ratios)

    @property
    def num_box_rows(self) -> int:
        """Groups of four box deltas: one per class, or background and object."""
        return 2 if self.class_agnostic_boxes else self.num_classes

    @property
    def anchor_stride(self) -> int:
        """Pixels of the network input per cell."""
        return ANCHOR_STRIDE

    def with_labels(self, *, num_classes: int, num_attributes: int) -> "DetectorConfig":
        """The same detector for another label map; both numbers count the background."""
        return replace(self, num_classes=num_classes, num_attributes=num_attributes)


PRESETS: dict[str, DetectorConfig] = {
    "x152c4": DetectorConfig(),
    "r101c4": DetectorConfig(blocks=(3, 4, 23), groups=1, width_per_group=64),
    "r50c4": DetectorConfig(blocks=(3, 4, 6), groups=1, width_per_group=64),
    "demo": DetectorConfig(
        norm="batch",
        blocks=(1, 2, 2),
        stem_width=24,
        res2_width=32,
        groups=1,
        width_per_group=16,
        res5_blocks=1,
        res5_inner_width=64,
        pooled_size=7,
        sampling_ratio=1,
        anchor_sizes=(26, 44, 72),
        pre_nms_top_n=300,
        post_nms_top_n=30,
        class_embedding_width=8,
        attribute_hidden_width=128,
        min_size=192,
        max_size=256,
        pixel_std=(57.375, 57.12, 58.395),
        regions=RegionRules(regress_boxes=True, max_attributes_per_region=8),
    ),
    "lite0": DetectorConfig(
        trunk="efficientnet_lite0",
        pooled_size=7,
        anchor_sizes=(24, 48, 96, 160, 256),
        pre_nms_top_n=1000,
        post_nms_top_n=100,
        class_embedding_width=64,
        attribute_hidden_width=256,
        min_size=320,
        max_size=480,
        channel_order="rgb",
        pixel_mean=IMAGENET_MEAN_RGB,
        pixel_std=IMAGENET_STD_RGB,
    ),
}
"""`x152c4` as published; `r101c4` and `r50c4` plain ResNets; `demo` for 256 x 192 scenes, trained
from nothing (`specs/demo_learning.md` 3); `lite0` over an ImageNet trunk (the same, 7)."""


def preset(name: str) -> DetectorConfig:
    """The preset of that name.

    Raises:
        DetectorConfigError: There is none.
    """
    if name not in PRESETS:
        raise DetectorConfigError(f"no detector preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]
