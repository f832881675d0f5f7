"""Small detectors for tests: quick to build, every part there."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from detector.config import DetectorConfig, RegionRules
from detector.model import AttributeRCNN
from storage.records import DecodedImage


def tiny_config(**changes: Any) -> DetectorConfig:
    """A ResNeXt of a few thousand weights; 6 classes and 9 attributes with background."""
    config = DetectorConfig(
        blocks=(1, 1, 1),
        stem_width=4,
        res2_width=8,
        groups=2,
        width_per_group=2,
        res5_blocks=1,
        pooled_size=6,
        anchor_sizes=(16, 40),
        pre_nms_top_n=100,
        post_nms_top_n=12,
        num_classes=6,
        num_attributes=9,
        class_embedding_width=3,
        attribute_hidden_width=5,
        min_size=64,
        max_size=96,
        regions=RegionRules(min_regions=2, max_regions=8, max_attributes_per_region=4),
    )
    return replace(config, **changes)


def tiny_model(seed: int = 0, **changes: Any) -> AttributeRCNN:
    """Random weights whose classes, boxes and attributes differ from region to region."""
    torch.manual_seed(seed)
    model = AttributeRCNN(tiny_config(**changes)).eval()
    with torch.no_grad():
        model.box_head.class_logits.weight.normal_(std=0.5)
        model.box_head.box_deltas.weight.normal_(std=0.2)
        model.rpn_head.logits.weight.normal_(std=0.5)
        model.attribute_head.logits.weight.normal_(std=2.0)
    return model


def photo(height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8 of smooth noise."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    rows, columns = np.arange(height) * 6 // height, np.arange(width) * 8 // width
    return np.ascontiguousarray(coarse[rows][:, columns])


def decoded(image_id: str = "toys/1", **shape: int) -> DecodedImage:
    """A photo as storage hands it on."""
    return DecodedImage(image_id=image_id, pixels=photo(**shape), content_hash="0" * 64)
