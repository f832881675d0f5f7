"""Settings of microsoft/scene_graph_benchmark (`MODEL.RPN.NMS_THRESH` and so on) to ours.

Source: `specs/detector.md` 2.1. Absent settings keep the values there, our defaults.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from detector.config import DetectorConfig, RegionRules
from detector.constants import ANCHOR_STRIDE
from detector.errors import DetectorConfigError

_BODIES = {"R-50-C4": (3, 4, 6), "R-101-C4": (3, 4, 23), "R-152-C4": (3, 8, 36)}
_NETWORK: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "MODEL.BACKBONE.CONV_BODY": ("blocks", lambda body: _blocks_of(body)),
    "MODEL.RESNETS.STEM_OUT_CHANNELS": ("stem_width", int),
    "MODEL.RESNETS.RES2_OUT_CHANNELS": ("res2_width", int),
    "MODEL.RESNETS.NUM_GROUPS": ("groups", int),
    "MODEL.RESNETS.WIDTH_PER_GROUP": ("width_per_group", int),
    "MODEL.RESNETS.STRIDE_IN_1X1": ("stride_in_1x1", bool),
    "MODEL.RESNETS.RES5_DILATION": ("res5_dilation", int),
    "MODEL.RPN.ANCHOR_SIZES": ("anchor_sizes", lambda sizes: numbers_of(sizes)),
    "MODEL.RPN.ASPECT_RATIOS": ("aspect_ratios", lambda ratios: numbers_of(ratios)),
    "MODEL.RPN.PRE_NMS_TOP_N_TEST": ("pre_nms_top_n", int),
    "MODEL.RPN.POST_NMS_TOP_N_TEST": ("post_nms_top_n", int),
    "MODEL.RPN.NMS_THRESH": ("proposal_nms_overlap", float),
    "MODEL.RPN.MIN_SIZE": ("proposal_min_size", int),
    "MODEL.ROI_HEADS.BBOX_REG_WEIGHTS": ("box_weights", lambda weights: numbers_of(weights, 4)),
    "MODEL.ROI_BOX_HEAD.NUM_CLASSES": ("num_classes", int),
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": ("pooled_size", int),
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": ("sampling_ratio", int),
    "MODEL.CLS_AGNOSTIC_BBOX_REG": ("class_agnostic_boxes", bool),
    "MODEL.ROI_ATTRIBUTE_HEAD.NUM_ATTRIBUTES": ("num_attributes", int),
    "MODEL.ROI_ATTRIBUTE_HEAD.CLS_EMD_DIM": ("class_embedding_width", int),
    "MODEL.ROI_ATTRIBUTE_HEAD.ATTR_EMD_DIM": ("attribute_hidden_width", int),
    "INPUT.MIN_SIZE_TEST": ("min_size", int),
    "INPUT.MAX_SIZE_TEST": ("max_size", int),
    "INPUT.PIXEL_MEAN": ("pixel_mean", lambda mean: numbers_of(mean, 3)),
    "INPUT.PIXEL_STD": ("pixel_std", lambda deviation: numbers_of(deviation, 3)),
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
    "DATA_DIR": "a path",
    "PATHS_CATALOG": "a path",
    "DISTRIBUTED_BACKEND": "the caller's matter",
    "LOG_LOSS_PERIOD": "training",
    "MODEL.META_ARCHITECTURE": "there is one",
    "MODEL.RPN_ONLY": "checked: never set",
    "MODEL.RELATION_ON": "checked: never set",
    "MODEL.MASK_ON": "checked: never set",
    "MODEL.KEYPOINT_ON": "checked: never set",
    "MODEL.RETINANET_ON": "checked: never set",
    **dict.fromkeys(
        (
            "MODEL.FBNET.",
            "MODEL.FPN.",
            "MODEL.FREQ_PRIOR",
            "MODEL.GROUP_NORM.",
            "MODEL.RETINANET.",
            "MODEL.ROI_KEYPOINT_HEAD.",
            "MODEL.ROI_MASK_HEAD.",
            "MODEL.ROI_RELATION_HEAD.",
            "MODEL.TRANSFORMER.",
            "MODEL.USE_FREQ_PRIOR",
        ),
        "of a network that is not this one",
    ),
    "MODEL.RESNETS.STAGE_WITH_DCN": "checked: no deformable convolutions",
    "MODEL.RESNETS.WITH_MODULATED_DCN": "as before",
    "MODEL.RESNETS.DEFORMABLE_GROUPS": "as before",
    **dict.fromkeys(
        (
            "MODEL.ROI_BOX_HEAD.CONV_HEAD_DIM",
            "MODEL.ROI_BOX_HEAD.DILATION",
            "MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM",
            "MODEL.ROI_BOX_HEAD.NUM_STACKED_CONVS",
            "MODEL.ROI_BOX_HEAD.USE_GN",
        ),
        "of another kind of box head",
    ),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What a set of settings says, and nothing else.

    network: fields of `DetectorConfig`
    rules:   fields of `RegionRules`
    """

    network: dict[str, Any]
    rules: dict[str, Any]


def stated_in(settings: Mapping[str, Any]) -> Stated:
    """Settings by our names; training and paths are passed over.

    Raises:
        DetectorConfigError: An unknown name, or a value that cannot be.
    """
    network: dict[str, Any] = {}
    rules: dict[str, Any] = {}
    for name, value in settings.items():
        known = _NETWORK.get(name) or _RULES.get(name)
        if known is not None:
            field, convert = known
            kind = network if name in _NETWORK else rules
            try:
                kind[field] = convert(value)
            except (TypeError, ValueError, OverflowError) as error:
                raise DetectorConfigError(
                    f"published settings: {name} cannot be {value!r}"
                ) from error
        elif not any(name.startswith(prefix) for prefix in IGNORED_PREFIXES):
            raise DetectorConfigError(f"published settings: unknown name {name!r}")
    return Stated(network=network, rules=rules)


_NEVER_SET = tuple(
    f"MODEL.{name}"
    for name in ("RPN_ONLY", "RELATION_ON", "MASK_ON", "KEYPOINT_ON", "RETINANET_ON")
)


def config_from_settings(settings: Mapping[str, Any]) -> DetectorConfig:
    """Build our configuration from full setting names; what is absent has its published value.

    Raises:
        DetectorConfigError: An unknown name, or one whose value cannot be built here.
    """
    stated = stated_in(_PUBLISHED_RULES | dict(settings))
    config = replace(DetectorConfig(), **stated.network, regions=RegionRules(**stated.rules))
    check_fixed(settings, config)
    return config


def numbers_of(values: Any, number: int | None = None) -> tuple[float, ...]:
    """So many numbers, or some."""
    numbers = tuple(values)
    if not all(type(each) in (int, float) and isfinite(each) for each in numbers):
        raise ValueError("not numbers")
    if number is not None and len(numbers) != number:
        raise ValueError(f"not {number} numbers")
    return numbers


def _blocks_of(body: str) -> tuple[int, int, int]:
    """Bottlenecks per stage of a published body."""
    if body not in _BODIES:
        raise DetectorConfigError(
            f"published settings: MODEL.BACKBONE.CONV_BODY {body!r}; known are {', '.join(_BODIES)}"
        )
    return _BODIES[body]


def check_fixed(settings: Mapping[str, Any], config: DetectorConfig) -> None:
    """Settings that are one fixed value here."""
    fixed = {
        "MODEL.RESNETS.BACKBONE_OUT_CHANNELS": 4 * config.res2_width,
        "MODEL.RPN.ANCHOR_STRIDE": (ANCHOR_STRIDE,),
        "MODEL.RESNETS.STAGE_WITH_DCN": (False,) * 4,
        "INPUT.TO_BGR255": True,
        **dict.fromkeys(_NEVER_SET, False),
    }
    for name, value in fixed.items():
        found = settings.get(name, value)
        if (tuple(found) if isinstance(found, list) else found) != value:
            raise DetectorConfigError(f"published settings: {name} must be {value}, not {found}")


def check_buildable(
    config: DetectorConfig, possible: Mapping[str, Collection[Any]], program: str
) -> None:
    """Refuse a network that another program cannot build.

    Args:
        config: Of the network.
        possible: Setting -> its values there, beside what both programs have alike.
        program: Its name.

    Raises:
        DetectorConfigError: It cannot; every setting at fault is named.
    """
    stride = (2,) if config.res5_dilation == 1 else (config.res5_stride,)  # dilated: 1 in any case
    alike = {"trunk": ("resnet_c4",), "res5_blocks": (3,), "res5_inner_width": (0,)}
    wanted = {**alike, "res5_stride": stride, **possible}
    odd = [
        f"{name} {getattr(config, name)!r} (there: {', '.join(map(repr, values))})"
        for name, values in wanted.items()
        if getattr(config, name) not in values
    ]
    if odd:
        raise DetectorConfigError(f"{program} cannot build this detector: {'; '.join(odd)}")


def settings_of(config: DetectorConfig) -> dict[str, Any]:
    """The way back: full setting names with which the original builds this detector.

    Raises:
        DetectorConfigError: It cannot.
    """
    bodies = {blocks: body for body, blocks in _BODIES.items()}
    check_buildable(
        config,
        {"blocks": tuple(bodies), "conventions": ("maskrcnn",), "channel_order": ("bgr",)},
        "scene_graph_benchmark",
    )
    known = {name: getattr(config, field) for name, (field, _) in _NETWORK.items()}
    known |= {name: getattr(config.regions, field) for name, (field, _) in _RULES.items()}
    return known | {
        "MODEL.BACKBONE.CONV_BODY": bodies[config.blocks],
        "MODEL.RESNETS.BACKBONE_OUT_CHANNELS": 4 * config.res2_width,
        "TEST.IGNORE_BOX_REGRESSION": not config.regions.regress_boxes,
    }
