"""Runs a real detectron2 on a photo and keeps what each of its stages gave, in our orders.

Needs detectron2 on the path. Letters: A anchors per cell, n proposals, C classes with background.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.reference.comparison import REFINED, Stages
from detector.config import DetectorConfig
from detector.preprocess import ModelImages
from detector.published.detectron2_model import input_of

_OUTSIDE = torch.tensor([0.0, 0.0, 1.0, 1.0])  # detectron2's x2, y2 lie outside the box


@torch.inference_mode()
def detectron2_stages(built: Any, images: ModelImages, config: DetectorConfig) -> Stages:
    """One photo through detectron2 by itself, then its heads once more with refined boxes.

    Args:
        built: From `build_detectron2`.
        images: Of one photo.
        config: Of our model.
    """
    heard: dict[str, Any] = {}
    heads = built.roi_heads
    ears = [
        module.register_forward_hook(_listener(heard, name))
        for name, module in (
            ("backbone", built.backbone),
            ("rpn_head", built.proposal_generator.rpn_head),
            ("proposals", built.proposal_generator),
            ("res5", heads.res5),
            ("predictor", heads.box_predictor),
        )
    ]
    given = input_of(images.pixels[0], images.original_sizes[0], config)
    [found] = built.inference([given], do_postprocess=False)
    for ear in ears:
        ear.remove()
    (pixels,), maps = heard["backbone"]
    _, ((logits,), (deltas,)) = heard["rpn_head"]
    (seen, *_), (proposals, _) = heard["proposals"]
    _, (class_logits, moves) = heard["predictor"]
    no_background = torch.zeros_like(moves[:, :4])
    stages = {
        "input": pixels[0],
        "c4": maps["res4"][0],
        "rpn_logits": ratio_by_ratio(logits[0], config, 1),
        "rpn_deltas": ratio_by_ratio(deltas[0], config, 4),
        "proposals": proposals[0].proposal_boxes.tensor - _OUTSIDE,
        "features": heard["res5"][1].mean(dim=(2, 3)),
        "class_logits": class_logits.roll(1, dims=1),
        "box_deltas": torch.cat((no_background, moves), dim=1),
        **_regions(found),
    }
    rules = heads.config.regions
    heads.config = replace(heads.config, regions=replace(rules, regress_boxes=True))
    [refined], _ = heads(seen, maps, proposals)
    heads.config = replace(heads.config, regions=rules)
    return stages | {f"{REFINED}{name}": numbers for name, numbers in _regions(refined).items()}


def ratio_by_ratio(tensor: Tensor, config: DetectorConfig, width: int) -> Tensor:
    """(A * width, h, w) of detectron2, size by size, in our order."""
    sizes, ratios = len(config.anchor_sizes), len(config.aspect_ratios)
    parts = tensor.view(sizes, ratios, width, *tensor.shape[1:])
    return parts.transpose(0, 1).reshape(tensor.shape)


def _regions(found: Any) -> dict[str, Tensor]:
    """`Instances` of `detectron2_parts` in our terms."""
    return {
        "boxes": found.pred_boxes.tensor - _OUTSIDE,
        "labels": found.pred_classes + 1,
        "scores": found.scores,
        "kept_features": found.features,
        "attribute_logits": found.attribute_logits,
        "attribute_ids": found.attribute_ids,
        "attribute_scores": found.attribute_scores,
    }


def _listener(heard: dict[str, Any], name: str) -> Callable[[Any, Any, Any], None]:
    """Keeps a module's inputs and output of its first call."""

    def listen(_module: Any, inputs: Any, output: Any) -> None:
        heard.setdefault(name, (inputs, output))

    return listen
