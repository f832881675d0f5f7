from dataclasses import replace

import pytest

from detector.config import PRESETS, DetectorConfig, RegionRules
from detector.errors import DetectorConfigError
from detector.published.detectron2_settings import (
    PARTS,
    is_detectron2_settings,
    settings_for_detectron2,
    stated_in_detectron2,
    usual_of_detectron2,
)
from detector.published.yaml_keys import settings_of

ODD = replace(
    DetectorConfig(),
    blocks=(3, 4, 23),
    groups=1,
    width_per_group=64,
    stride_in_1x1=True,
    res5_dilation=2,
    anchor_sizes=(32.0, 64.0),
    aspect_ratios=(0.5, 1.0),
    class_agnostic_boxes=True,
    channel_order="rgb",
    pixel_std=(57.375, 57.12, 58.395),
    min_size=480,
    regions=RegionRules(filter=2, score_threshold=0.3, max_regions=36),
)


@pytest.mark.parametrize("config", [PRESETS["x152c4"], PRESETS["r50c4"], ODD])
@pytest.mark.parametrize("conventions", ["maskrcnn", "detectron2"])
def test_settings_come_back(config: DetectorConfig, conventions: str) -> None:
    config = replace(config, conventions=conventions)  # type: ignore[arg-type]  # of two literals
    settings = settings_for_detectron2(config)
    assert is_detectron2_settings(settings)
    stated = stated_in_detectron2(settings)
    for field, value in stated.network.items():
        assert value == getattr(config, field), field
    assert RegionRules(**stated.rules) == config.regions


def test_our_parts_are_named_where_ours_differs() -> None:
    settings = settings_for_detectron2(DetectorConfig())
    assert PARTS.items() <= settings.items()
    assert settings["MODEL.ROI_BOX_HEAD.POOLER_TYPE"] == "ROIAlign"
    assert settings["MODEL.ROI_HEADS.NUM_CLASSES"] == 1594
    assert settings["MODEL.RESNETS.DEPTH"] == 152
    own = settings_for_detectron2(replace(DetectorConfig(), conventions="detectron2"))
    assert own["MODEL.PROPOSAL_GENERATOR.NAME"] == "RPN"
    assert own["MODEL.ROI_BOX_HEAD.POOLER_TYPE"] == "ROIAlignV2"


def test_a_settings_file_of_the_model_zoo() -> None:
    zoo = {
        "_BASE_": "../Base-RCNN-C4.yaml",
        "MODEL.WEIGHTS": "R-50.pkl",
        "MODEL.MASK_ON": False,
        "MODEL.RESNETS.DEPTH": 50,
        "MODEL.ROI_HEADS.NAME": "Res5ROIHeads",
        "SOLVER.STEPS": [210000, 250000],
    }
    stated = stated_in_detectron2(zoo)
    assert stated.network == {"blocks": (3, 4, 6), "conventions": "detectron2"}
    assert not stated.rules


def test_settings_of_the_other_program_are_told_apart() -> None:
    other = {"MODEL.BACKBONE.CONV_BODY": "R-152-C4", "MODEL.RPN.PRE_NMS_TOP_N_TEST": 6000}
    assert not is_detectron2_settings(other)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MODEL.ROI_HEADS.NAME", "StandardROIHeads", "Res5ROIHeads"),
        ("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "build_resnet_backbone"),
        ("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIPool", "ROIAlignV2 or ROIAlign"),
        ("MODEL.RESNETS.DEPTH", 18, "cannot be 18"),
        ("MODEL.ANCHOR_GENERATOR.SIZES", [[32], [64]], "cannot be"),
        ("INPUT.FORMAT", "YUV-BT.601", "cannot be"),
        ("MODEL.RESNETS.OUT_FEATURES", ["res5"], "res4"),
    ],
)
def test_other_networks_are_refused_by_setting(name: str, value: object, message: str) -> None:
    with pytest.raises(DetectorConfigError, match=message) as refusal:
        stated_in_detectron2({name: value})
    assert name in str(refusal.value)


@pytest.mark.parametrize(
    ("config", "at_fault"),
    [
        (PRESETS["lite0"], "trunk 'efficientnet_lite0'"),
        (replace(DetectorConfig(), res5_blocks=2), "res5_blocks 2"),
        (replace(DetectorConfig(), res5_inner_width=64), "res5_inner_width 64"),
        (replace(DetectorConfig(), res5_stride=1), "res5_stride 1"),
        (replace(DetectorConfig(), blocks=(1, 2, 3)), r"blocks \(1, 2, 3\)"),
    ],
)
def test_what_the_other_programs_cannot_build_is_refused_by_setting(
    config: DetectorConfig, at_fault: str
) -> None:
    with pytest.raises(DetectorConfigError, match=f"detectron2 cannot build .*{at_fault}"):
        settings_for_detectron2(config)
    with pytest.raises(DetectorConfigError, match=f"benchmark cannot build .*{at_fault}"):
        settings_of(config)


def test_a_dilated_res5_has_a_stride_of_its_own() -> None:
    config = replace(DetectorConfig(), res5_dilation=2, res5_stride=1)
    assert settings_for_detectron2(config)["MODEL.RESNETS.RES5_DILATION"] == 2
    assert settings_of(config)["MODEL.RESNETS.RES5_DILATION"] == 2


def test_what_is_usual_follows_the_kind_of_network() -> None:
    plain, grouped = (usual_of_detectron2(groups=n, caffe2=False) for n in (1, 32))
    assert (plain["stride_in_1x1"], grouped["stride_in_1x1"]) == (True, False)
    assert plain["conventions"] == "detectron2"
    assert usual_of_detectron2(groups=1, caffe2=True)["conventions"] == "maskrcnn"
