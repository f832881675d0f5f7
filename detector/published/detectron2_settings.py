"""Settings of detectron2 (`MODEL.RPN.NMS_THRESH` and so on) to ours and back.

A detector of ours needs parts that detectron2 does not have (`detectron2_parts`): their names and
settings are `PARTS` and `MODEL.REGIONS.*`. A settings file with detectron2's own parts is one of
its model zoo, or of a program around it.
Source: detectron2 `config/defaults.py`, `specs/detector.md` 10.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

from detector.config import DetectorConfig, RegionRules
from detector.errors import DetectorConfigError
from detector.published.yaml_keys import Stated, check_buildable, numbers_of

PARTS = {
    "MODEL.ANCHOR_GENERATOR.NAME": "OscarAnchorGenerator",
    "MODEL.PROPOSAL_GENERATOR.NAME": "OscarRPN",
    "MODEL.ROI_HEADS.NAME": "OscarRes5ROIHeads",
}
"""Names under which `detectron2_parts` registers its parts."""
_BLOCKS = {50: (3, 4, 6), 101: (3, 4, 23), 152: (3, 8, 36)}
_DEPTHS = {blocks: depth for depth, blocks in _BLOCKS.items()}
_RULES = {f"MODEL.REGIONS.{field.name.upper()}": field.name for field in fields(RegionRules)}
_PLAIN: dict[str, str] = {
    "MODEL.RESNETS.STEM_OUT_CHANNELS": "stem_width",
    "MODEL.RESNETS.RES2_OUT_CHANNELS": "res2_width",
    "MODEL.RESNETS.NUM_GROUPS": "groups",
    "MODEL.RESNETS.WIDTH_PER_GROUP": "width_per_group",
    "MODEL.RESNETS.STRIDE_IN_1X1": "stride_in_1x1",
    "MODEL.RESNETS.RES5_DILATION": "res5_dilation",
    "MODEL.RPN.PRE_NMS_TOPK_TEST": "pre_nms_top_n",
    "MODEL.RPN.POST_NMS_TOPK_TEST": "post_nms_top_n",
    "MODEL.RPN.NMS_THRESH": "proposal_nms_overlap",
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": "proposal_min_size",
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": "box_weights",
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": "pooled_size",
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": "sampling_ratio",
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": "class_agnostic_boxes",
    "INPUT.MIN_SIZE_TEST": "min_size",
    "INPUT.MAX_SIZE_TEST": "max_size",
    "MODEL.PIXEL_MEAN": "pixel_mean",
    "MODEL.PIXEL_STD": "pixel_std",
}
"""Settings that only have another name."""
_OTHER: dict[str, tuple[str, Callable[[Any], Any], Callable[[DetectorConfig], Any]]] = {
    "MODEL.RESNETS.DEPTH": (
        "blocks",
        lambda depth: _BLOCKS[depth],
        lambda config: _DEPTHS[config.blocks],
    ),
    "MODEL.ANCHOR_GENERATOR.SIZES": (
        "anchor_sizes",
        lambda sizes: _of_one_map(sizes),
        lambda config: [list(config.anchor_sizes)],
    ),
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": (
        "aspect_ratios",
        lambda ratios: _of_one_map(ratios),
        lambda config: [list(config.aspect_ratios)],
    ),
    "INPUT.FORMAT": (
        "channel_order",
        lambda order: {"BGR": "bgr", "RGB": "rgb"}[order],
        lambda config: config.channel_order.upper(),
    ),
}
"""Settings in another form: our name, the way to us, the way back."""
_MODEL_ZOO = {"min_size": 800, "max_size": 1333, "post_nms_top_n": 1000}
_FIXED: dict[str, tuple[Any, ...]] = {
    "MODEL.META_ARCHITECTURE": ("GeneralizedRCNN",),
    "MODEL.BACKBONE.NAME": ("build_resnet_backbone",),
    "MODEL.RESNETS.OUT_FEATURES": (("res4",),),
    "MODEL.RPN.IN_FEATURES": (("res4",),),
    "MODEL.ROI_HEADS.IN_FEATURES": (("res4",),),
    "MODEL.RPN.HEAD_NAME": ("StandardRPNHead",),
    "MODEL.RPN.CONV_DIMS": ((-1,),),
    "MODEL.RESNETS.NORM": ("FrozenBN", "BN", "SyncBN"),
    "MODEL.ROI_HEADS.NAME": (
        "Res5ROIHeads",
        "AttributeRes5ROIHeads",  # grid-feats-vqa, bottom-up-attention.pytorch
        PARTS["MODEL.ROI_HEADS.NAME"],
    ),
    "MODEL.PROPOSAL_GENERATOR.NAME": ("RPN", PARTS["MODEL.PROPOSAL_GENERATOR.NAME"]),
    "MODEL.ANCHOR_GENERATOR.NAME": (
        "DefaultAnchorGenerator",
        PARTS["MODEL.ANCHOR_GENERATOR.NAME"],
    ),
    "MODEL.ANCHOR_GENERATOR.OFFSET": (0.0,),
    "MODEL.RPN.BBOX_REG_WEIGHTS": ((1.0, 1.0, 1.0, 1.0),),
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": ("ROIAlignV2", "ROIAlign"),
}
"""Settings of a network that can be built here."""


def is_detectron2_settings(settings: Mapping[str, Any]) -> bool:
    """Whether these are settings of detectron2, not of scene_graph_benchmark."""
    return any(
        name.startswith(("MODEL.ANCHOR_GENERATOR.", "MODEL.RESNETS.DEPTH", "MODEL.MASK_FORMAT"))
        or name.endswith((".PRE_NMS_TOPK_TEST", ".POST_NMS_TOPK_TEST", ".BASE_LR_END"))
        or name in ("INPUT.FORMAT", "VERSION", "_BASE_", "MODEL.WEIGHTS", "MODEL.ROI_HEADS.NAME")
        for name in settings
    )


def stated_in_detectron2(settings: Mapping[str, Any]) -> Stated:
    """Settings by our names; what does not concern the network is passed over.

    Raises:
        DetectorConfigError: A network that cannot be built here, or a value that cannot be.
    """
    network: dict[str, Any] = {}
    rules: dict[str, Any] = {}
    for name, value in settings.items():
        _check_fixed(name, value)
        try:
            if name in _PLAIN:
                network[_PLAIN[name]] = _frozen(value)
            elif name in _OTHER:
                field, convert, _ = _OTHER[name]
                network[field] = convert(value)
            elif name in _RULES:
                rules[_RULES[name]] = value
        except (KeyError, TypeError, ValueError) as error:
            raise DetectorConfigError(f"detectron2 settings: {name} cannot be {value!r}") from error
    own_parts = settings.get("MODEL.PROPOSAL_GENERATOR.NAME") in PARTS.values()
    network["conventions"] = "maskrcnn" if own_parts else "detectron2"
    return Stated(network=network, rules=rules)


def usual_of_detectron2(*, groups: int, caffe2: bool) -> dict[str, Any]:
    """Settings of a checkpoint without a settings file: those of the model zoo.

    Args:
        groups: Of its convolutions; ResNets of the zoo stride in the 1x1, ResNeXts in the 3x3.
        caffe2: It is one of Caffe2's Detectron, whose conventions the published detectors share.
    """
    conventions = "maskrcnn" if caffe2 else "detectron2"
    return {**_MODEL_ZOO, "stride_in_1x1": groups == 1, "conventions": conventions}


def settings_for_detectron2(config: DetectorConfig) -> dict[str, Any]:
    """Settings with which detectron2 builds a detector of ours, by full names.

    Raises:
        DetectorConfigError: It cannot be built there.
    """
    check_buildable(config, {"blocks": tuple(_DEPTHS)}, "detectron2")
    inclusive = config.conventions == "maskrcnn"
    chosen: dict[str, Any] = {
        name: values[0] if not isinstance(values[0], tuple) else list(values[0])
        for name, values in _FIXED.items()
    }
    chosen |= {name: _listed(getattr(config, field)) for name, field in _PLAIN.items()}
    chosen |= {name: back(config) for name, (_, _, back) in _OTHER.items()}
    chosen |= {name: asdict(config.regions)[field] for name, field in _RULES.items()}
    chosen |= PARTS if inclusive else {"MODEL.ROI_HEADS.NAME": PARTS["MODEL.ROI_HEADS.NAME"]}
    return chosen | {
        "MODEL.ROI_HEADS.NUM_CLASSES": config.num_classes - 1,
        "MODEL.ROI_ATTRIBUTE_HEAD.NUM_CLASSES": config.num_attributes,
        "MODEL.ROI_ATTRIBUTE_HEAD.OBJ_EMBED_DIM": config.class_embedding_width,
        "MODEL.ROI_ATTRIBUTE_HEAD.FC_DIM": config.attribute_hidden_width,
        "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlign" if inclusive else "ROIAlignV2",
    }


def _check_fixed(name: str, value: Any) -> None:
    """A setting that has few possible values here."""
    if name in _FIXED and _frozen(value) not in _FIXED[name]:
        wanted = " or ".join(str(known) for known in _FIXED[name])
        raise DetectorConfigError(
            f"detectron2 settings: {name} is {value!r}; only a network with {wanted} can be built "
            "here"
        )


def _of_one_map(values: Any) -> tuple[float, ...]:
    """[[32, 64]] -> (32, 64): there is one map, C4."""
    (own,) = values
    return numbers_of(own)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
