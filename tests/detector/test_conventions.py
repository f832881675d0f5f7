"""Detectors trained by detectron2's conventions: anchors, pooling, and every engine alike."""

from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from torchvision.ops import roi_align

from detector.anchors import configured_cell_anchors, unrounded_cell_anchors
from detector.boxes import corners_to_pool
from detector.config import DetectorConfig
from detector.engine import Engine
from detector.engines import prepare
from detector.engines.fast import prepare_fast
from detector.model import AttributeRCNN
from tests.builders_detector import tiny_model

BOXES = torch.tensor([[10.0, 4.0, 60.0, 50.0], [0.0, 0.0, 90.0, 40.0], [40.0, 20.0, 75.0, 60.0]])


def detectron2_model() -> AttributeRCNN:
    return tiny_model(conventions="detectron2", pooled_size=14)


def test_anchors_are_not_rounded_and_lie_on_the_corner_of_the_cell() -> None:
    anchors = unrounded_cell_anchors((32, 64), (0.5, 1.0))
    outside = anchors + torch.tensor([0.0, 0.0, 1.0, 1.0])
    sides = outside[:, 2:] - outside[:, :2]
    assert sides.prod(dim=1).tolist() == pytest.approx([1024, 4096, 1024, 4096])
    assert torch.equal(outside[:, :2], -outside[:, 2:])
    ratios = (sides[:, 1] / sides[:, 0]).tolist()
    assert ratios == pytest.approx([0.5, 0.5, 1.0, 1.0])  # ratios outer, sizes inner


def test_published_detectors_keep_their_own_anchors() -> None:
    assert configured_cell_anchors(DetectorConfig())[0].tolist() == [-15, -4, 30, 19]
    other = configured_cell_anchors(replace(DetectorConfig(), conventions="detectron2"))
    assert other.shape == (15, 4)
    assert other[5].tolist() == [-16, -16, 15, 15]


def test_regions_are_pooled_as_aligned_pooling_does() -> None:
    model = detectron2_model()
    maps = torch.randn(1, 3, 8, 8)
    wanted = roi_align(maps, [BOXES + torch.tensor([0.0, 0.0, 1.0, 1.0])], 14, 1 / 16, aligned=True)
    pooled = roi_align(maps, [corners_to_pool(BOXES, model.config)], 14, 1 / 16, aligned=False)
    torch.testing.assert_close(pooled, wanted)
    assert torch.equal(corners_to_pool(BOXES, DetectorConfig()), BOXES)


def engines_of(model: AttributeRCNN) -> dict[str, Engine]:
    fast = ["torch-bf16", *(["openvino-f32"] if find_spec("openvino") else [])]
    return {
        "exact": prepare(model),
        **{name: prepare_fast(model, engine=name) for name in fast},
    }


def test_every_engine_pools_by_the_conventions_of_the_detector() -> None:
    model = detectron2_model()
    plain = AttributeRCNN(replace(model.config, conventions="maskrcnn")).eval()
    plain.load_state_dict(model.state_dict())
    pixels = torch.randn(1, 3, 96, 128) * 50
    with torch.inference_mode():
        wanted = model.region_features(model.trunk(pixels), [BOXES])
        other = plain.region_features(plain.trunk(pixels), [BOXES])
        for name, engine in engines_of(model).items():
            found = engine.region_features(engine.trunk(pixels), [BOXES])
            away, to_other = (found - wanted).abs().max(), (found - other).abs().max()
            assert away < 0.2 * to_other, name
            if name == "exact":
                torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
