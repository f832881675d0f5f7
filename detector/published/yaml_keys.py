"""Settings of microsoft/scene_graph_benchmark (`MODEL.RPN.NMS_THRESH` and so on) to ours.

Source: `specs/detector.md` 2.1. Absent settings keep the values there, our defaults.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from detector.config import DetectorConfig, RegionRules
from detector.constants import ANCHOR_STRIDE
from detector.errors import DetectorConfigError
from detector.training.config import DetectorTraining

_BODIES = {"R-50-C4": (3, 4, 6), "R-101-C4": (3, 4, 23), "R-152-C4": (3, 8, 36)}
_NETWORK: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "MODEL.BACKBONE.CONV_BODY": ("blocks", lambda body: _blocks_of(body)),
    "MODEL.RESNETS.STEM_OUT_CHANNELS": ("stem_width", int),
    "MODEL.RESNETS.RES2_OUT_CHANNELS": ("res2_width", int),
    "MODEL.RESNETS.NUM_GROUPS": ("groups", int),
    "MODEL.RESNETS.WIDTH_PER_GROUP": ("width_per_group", int),
    "MODEL.RESNETS.STRIDE_IN_1X1": ("stride_in_1x1", bool),
    "MODEL.RESNETS.RES5_DILATION": ("res5_dilation", int),
    "MODEL.RPN.ANCHOR_SIZES": ("anchor_sizes", tuple),
    "MODEL.RPN.ASPECT_RATIOS": ("aspect_ratios", tuple),
    "MODEL.RPN.PRE_NMS_TOP_N_TEST": ("pre_nms_top_n", int),
    "MODEL.RPN.POST_NMS_TOP_N_TEST": ("post_nms_top_n", int),
    "MODEL.RPN.NMS_THRESH": ("proposal_nms_overlap", float),
    "MODEL.RPN.MIN_SIZE": ("proposal_min_size", int),
    "MODEL.ROI_HEADS.BBOX_REG_WEIGHTS": ("box_weights", tuple),
    "MODEL.ROI_BOX_HEAD.NUM_CLASSES": ("num_classes", int),
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": ("pooled_size", int),
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": ("sampling_ratio", int),
    "MODEL.CLS_AGNOSTIC_BBOX_REG": ("class_agnostic_boxes", bool),
    "MODEL.ROI_ATTRIBUTE_HEAD.NUM_ATTRIBUTES": ("num_attributes", int),
    "MODEL.ROI_ATTRIBUTE_HEAD.CLS_EMD_DIM": ("class_embedding_width", int),
    "MODEL.ROI_ATTRIBUTE_HEAD.ATTR_EMD_DIM": ("attribute_hidden_width", int),
    "INPUT.MIN_SIZE_TEST": ("min_size", int),
    "INPUT.MAX_SIZE_TEST": ("max_size", int),
    "INPUT.PIXEL_MEAN": ("pixel_mean", tuple),
    "INPUT.PIXEL_STD": ("pixel_std", tuple),
}
_RULES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "MODEL.ROI_HEADS.NMS_FILTER": ("filter", int),
    "MODEL.ROI_HEADS.SCORE_THRESH": ("score_threshold", float),
    "MODEL.ROI_HEADS.NMS": ("nms_overlap", float),
    "MODEL.ROI_HEADS.MIN_DETECTIONS_PER_IMG": ("min_regions", int),
    "MODEL.ROI_HEADS.DETECTIONS_PER_IMG": ("max_regions", int),
    "TEST.IGNORE_BOX_REGRESSION": ("regress_boxes", lambda is_ignored: not is_ignored),
    "MODEL.ROI_ATTRIBUTE_HEAD.POSTPROCESS_ATTRIBUTES_THRESHOLD": ("attribute_threshold", float),
    "MODEL.ROI_ATTRIBUTE_HEAD.MAX_NUM_ATTR_PER_IMG": ("max_attributes_per_image", int),
    "MODEL.ROI_ATTRIBUTE_HEAD.MAX_NUM_ATTR_PER_OBJ": ("max_attributes_per_region", int),
}
_TRAINING: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "MODEL.BACKBONE.FREEZE_CONV_BODY_AT": ("frozen_stages", int),
    "MODEL.RPN.FG_IOU_THRESHOLD": ("anchor_foreground_overlap", float),
    "MODEL.RPN.BG_IOU_THRESHOLD": ("anchor_background_overlap", float),
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": ("anchors_per_image", int),
    "MODEL.RPN.POSITIVE_FRACTION": ("anchor_positive_fraction", float),
    "MODEL.RPN.PRE_NMS_TOP_N_TRAIN": ("pre_nms_top_n", int),
    "MODEL.RPN.POST_NMS_TOP_N_TRAIN": ("post_nms_top_n", int),
    "MODEL.ROI_HEADS.FG_IOU_THRESHOLD": ("region_foreground_overlap", float),
    "MODEL.ROI_HEADS.BG_IOU_THRESHOLD": ("region_background_overlap", float),
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": ("regions_per_image", int),
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": ("region_positive_fraction", float),
    "MODEL.ROI_ATTRIBUTE_HEAD.LOSS_WEIGHT": ("attribute_loss_weight", float),
    "SOLVER.BASE_LR": ("learning_rate", float),
    "SOLVER.BIAS_LR_FACTOR": ("bias_rate_factor", float),
    "SOLVER.MOMENTUM": ("momentum", float),
    "SOLVER.WEIGHT_DECAY": ("weight_decay", float),
    "SOLVER.MAX_ITER": ("num_steps", int),
    "SOLVER.STEPS": ("decay_steps", tuple),
    "SOLVER.GAMMA": ("decay_factor", float),
    "SOLVER.WARMUP_ITERS": ("warmup_steps", int),
    "SOLVER.WARMUP_FACTOR": ("warmup_factor", float),
    "SOLVER.IMS_PER_BATCH": ("images_per_step", int),
}
_PUBLISHED_RULES: dict[str, Any] = {
    # where the original program's resolved setting is not our default
    "MODEL.ROI_HEADS.NMS_FILTER": 0,
    "TEST.IGNORE_BOX_REGRESSION": False,
    "MODEL.ROI_ATTRIBUTE_HEAD.MAX_NUM_ATTR_PER_IMG": 100,
}
IGNORED_PREFIXES = {
    "DATASETS.": "names files of a data set",
    "DATALOADER.": "how batches are gathered, the caller's matter here",
    "SOLVER.": "training",
    "OUTPUT_DIR": "where results went",
    "TEST.": "what was written, not what was computed",
    "MODEL.ATTRIBUTE_ON": "the attribute head is always there",
    "MODEL.WEIGHT": "a path",
    "MODEL.DEVICE": "the caller's matter",
    "MODEL.META_ARCHITECTURE": "there is one",
    "MODEL.RPN_ONLY": "never set",
    "MODEL.RPN.FORCE_BOXES": "an argument here",
    "MODEL.ROI_BOX_HEAD.FORCE_BOXES": "an argument here",
    "MODEL.RESNETS.BACKBONE_OUT_CHANNELS": "follows from RES2_OUT_CHANNELS; checked",
    "MODEL.ROI_BOX_HEAD.FEATURE_EXTRACTOR": "there is one",
    "MODEL.ROI_BOX_HEAD.PREDICTOR": "there is one",
    "MODEL.RESNETS.TRANS_FUNC": "there is one, normalisation is frozen",
    "MODEL.RESNETS.STEM_FUNC": "there is one, normalisation is frozen",
    "MODEL.ROI_BOX_HEAD.POOLER_SCALES": "1/16, the stride of C4",
    "MODEL.ROI_ATTRIBUTE_HEAD.": "training, or the head is shared as always",
    "MODEL.ROI_HEADS.": "training",
    "MODEL.RPN.": "training",
    "MODEL.BACKBONE.": "training",
    "INPUT.": "training",
    "DTYPE": "float32",
}


def config_from_settings(settings: Mapping[str, Any]) -> DetectorConfig:
    """Build our configuration from full setting names; what is absent has its published value.

    Raises:
        DetectorConfigError: An unknown name, or one whose value cannot be built here.
    """
    network, rules = {}, {}
    for name, value in (_PUBLISHED_RULES | dict(settings)).items():
        if name in _NETWORK:
            field, convert = _NETWORK[name]
            network[field] = convert(value)
        elif name in _RULES:
            field, convert = _RULES[name]
            rules[field] = convert(value)
        elif not any(name.startswith(prefix) for prefix in IGNORED_PREFIXES):
            raise DetectorConfigError(f"published settings: unknown name {name!r}")
    config = replace(DetectorConfig(), **network, regions=RegionRules(**rules))
    _check_fixed(settings, config)
    return config


def _blocks_of(body: str) -> tuple[int, int, int]:
    """Bottlenecks per stage of a published body."""
    if body not in _BODIES:
        raise DetectorConfigError(
            f"published settings: MODEL.BACKBONE.CONV_BODY {body!r}; known are {', '.join(_BODIES)}"
        )
    return _BODIES[body]


def _check_fixed(settings: Mapping[str, Any], config: DetectorConfig) -> None:
    """Settings that are one fixed value here."""
    fixed = {
        "MODEL.RESNETS.BACKBONE_OUT_CHANNELS": 4 * config.res2_width,
        "MODEL.RPN.ANCHOR_STRIDE": (ANCHOR_STRIDE,),
        "INPUT.TO_BGR255": True,
    }
    for name, value in fixed.items():
        found = settings.get(name, value)
        if (tuple(found) if isinstance(found, list) else found) != value:
            raise DetectorConfigError(f"published settings: {name} must be {value}, not {found}")


def training_from_settings(settings: Mapping[str, Any]) -> DetectorTraining:
    """Build our training settings from full setting names; what is absent has its published value.

    Names that do not concern training are left to `config_from_settings`.
    """
    chosen = {
        field: convert(settings[name])
        for name, (field, convert) in _TRAINING.items()
        if name in settings
    }
    return replace(DetectorTraining(), **chosen)
