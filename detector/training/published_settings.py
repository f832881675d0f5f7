"""Training settings of microsoft/scene_graph_benchmark (`SOLVER.BASE_LR` and so on) to ours.

Source: `specs/detector.md` 2.1 and 13. Absent settings keep the values there, our defaults.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from detector.training.config import DetectorTraining

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
