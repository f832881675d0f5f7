"""The same weights in detectron2 itself; skipped where it is absent."""

import importlib.util
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from detector.checkpoints import read_detector
from detector.config import RegionRules
from detector.errors import DetectorConfigError
from detector.model import AttributeRCNN
from detector.preprocess import ModelImages, to_model_images
from detector.published.checkpoint_names import from_published
from detector.published.detectron2_model import (
    add_settings,
    build_detectron2,
    detectron2_config,
    input_of,
    register,
    weights_for_detectron2,
)
from detector.published.detectron2_names import from_detectron2
from detector.published.saving import save_detectron2
from detector.published.yaml_keys import config_from_settings
from detector.see import search, see
from detector.weights import load_weights
from storage.published.label_maps import label_map_of
from tests.builders_detector import photo, tiny_model
from tests.detectron2_tree import need_detectron2
from tests.locations import oracle_dir

pytestmark = pytest.mark.filterwarnings("ignore")  # detectron2's own, on current torch and numpy
FOLDER = oracle_dir("detector")
OUTSIDE = torch.tensor([0.0, 0.0, 1.0, 1.0])
R50 = {"blocks": (3, 4, 6), "res5_blocks": 3}


def r50_model(**changes: Any) -> AttributeRCNN:
    """Few channels, but as many blocks as detectron2 knows; no score so large that it ties."""
    model = tiny_model(**R50 | changes)
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.8, 1.6)
        elif name.endswith("norm3.weight"):
            buffer.fill_(0.3)
    with torch.no_grad():
        pixels = images_for(model).pixels
        c4 = model.trunk(pixels)
        logits, _ = model.rpn_head(c4)
        model.rpn_head.logits.weight.mul_(2 / logits.abs().max())
        features = model.region_features(c4, search(model, c4, [tuple(pixels.shape[2:])]))
        model.box_head.class_logits.weight.mul_(
            4 / model.box_head.class_logits(features).abs().max()
        )
    return model


def images_for(model: AttributeRCNN) -> ModelImages:
    return to_model_images([photo(96, 128, seed=3)], model.config)


def detected(built: Any, model: AttributeRCNN, images: ModelImages) -> Any:
    given = input_of(images.pixels[0], images.original_sizes[0], model.config)
    with torch.inference_mode():
        return built.inference([given], do_postprocess=False)[0]


def agree(model: AttributeRCNN, images: ModelImages) -> None:
    """Same regions in the same order, same features, boxes, attributes up to rounding."""
    ours = see(model, images)[0]
    theirs = detected(build_detectron2(model), model, images)
    assert torch.equal(theirs.pred_classes + 1, ours.class_ids)
    assert torch.equal(theirs.proposal_index, ours.proposals)
    close = {"rtol": 1e-3, "atol": 1e-3}
    torch.testing.assert_close(theirs.pred_boxes.tensor - OUTSIDE, ours.boxes, **close)
    torch.testing.assert_close(theirs.features, ours.features, **close)
    torch.testing.assert_close(theirs.scores, ours.scores, **close)
    torch.testing.assert_close(theirs.attribute_logits, ours.attribute_logits, **close)


def test_without_detectron2_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DetectorConfigError, match="extra `detectron2`"):
        register()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"stride_in_1x1": True, "groups": 1},
        {"res5_dilation": 2, "sampling_ratio": 2},
        {"class_agnostic_boxes": True, "regions": RegionRules(regress_boxes=True, min_regions=3)},
        {"regions": RegionRules(filter=0, score_threshold=0.1, regress_boxes=True)},
        {"regions": RegionRules(filter=2, score_threshold=0.1)},
        {"pixel_std": (57.375, 57.12, 58.395), "proposal_min_size": 4},
    ],
)
def test_detectron2_finds_the_same_regions(changes: dict[str, Any]) -> None:
    need_detectron2()
    model = r50_model(**changes)
    agree(model, images_for(model))


NETWORKS = json.loads((FOLDER / "cases.json").read_text())["networks"] if FOLDER.is_dir() else {}


@pytest.mark.oracle
@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_detectron2_computes_what_the_original_program_recorded(network: str) -> None:
    need_detectron2()
    entry = NETWORKS[network]
    model = AttributeRCNN(config_from_settings(entry["config_overrides"]))
    weights = load_file(FOLDER / f"{network}.weights.safetensors")
    load_weights(model, from_published(weights, model.cell_anchors), network)
    model.eval()
    pixels = np.asarray(Image.open(FOLDER / entry["images"][0]["file"]).convert("RGB"))
    images = to_model_images([pixels], model.config)
    agree(model, images)
    built = build_detectron2(model)
    recorded = load_file(FOLDER / f"{network}.cases.safetensors")
    with torch.inference_mode():
        c4 = built.backbone(images.pixels)
    wanted = recorded["img0.c4"]
    torch.testing.assert_close(c4["res4"][0], wanted.view_as(c4["res4"][0]), rtol=1e-3, atol=2e-3)


def test_conventions_of_the_model_zoo_are_those_of_detectron2s_own_parts() -> None:
    need_detectron2()
    model = r50_model(conventions="detectron2", pooled_size=14, anchor_sizes=(24, 48))
    images = images_for(model)
    built: Any = build_detectron2(model)
    assert type(built.proposal_generator).__name__ == "RPN"
    with torch.inference_mode():
        features = built.backbone(images.pixels)
        theirs = built.proposal_generator.anchor_generator([features["res4"]])[0].tensor
        c4 = model.trunk(images.pixels)
        sizes, ratios = len(model.config.anchor_sizes), len(model.config.aspect_ratios)
        ours = model.anchors(c4).view(-1, ratios, sizes, 4).transpose(1, 2).reshape(-1, 4)
        torch.testing.assert_close(theirs - OUTSIDE, ours, rtol=0, atol=1e-3)
        boxes = search(model, c4, images.sizes)[0]
        boxes = boxes[(boxes[:, 2:] - boxes[:, :2] >= 16).all(dim=1)]  # smaller: see the docstring
        assert len(boxes)
        from detectron2.structures import Boxes

        pooled = built.roi_heads.region_features(features, [Boxes(boxes + OUTSIDE)])
        torch.testing.assert_close(pooled, model.region_features(c4, [boxes]), rtol=1e-3, atol=1e-3)
    shifted = AttributeRCNN(replace(model.config, conventions="maskrcnn")).eval()
    shifted.load_state_dict(model.state_dict())
    with torch.inference_mode():
        away = (shifted.region_features(c4, [boxes]) - pooled).abs().max()
    assert away > 0.05  # so the conventions matter


def test_a_model_is_built_from_saved_settings_and_weights() -> None:
    need_detectron2()
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    model = r50_model()
    text = detectron2_config(model.config).dump()
    settings = get_cfg()
    add_settings(settings)
    settings.merge_from_other_cfg(settings.load_cfg(text))
    built = build_model(settings)
    missing, unexpected = built.load_state_dict(weights_for_detectron2(model), strict=False)
    assert not missing
    assert not unexpected
    back = from_published(from_detectron2(built.state_dict()), model.cell_anchors)
    assert back.keys() == model.state_dict().keys()


def stock_settings() -> Any:
    """A small R50-C4 of detectron2's model zoo, as its own settings build it."""
    from detectron2.config import get_cfg

    settings = get_cfg()
    settings.merge_from_list(
        [
            *("MODEL.DEVICE", "cpu", "MODEL.RESNETS.STEM_OUT_CHANNELS", 4),
            *("MODEL.RESNETS.RES2_OUT_CHANNELS", 16, "MODEL.RESNETS.WIDTH_PER_GROUP", 4),
            *("MODEL.ROI_HEADS.NUM_CLASSES", 7, "MODEL.RPN.POST_NMS_TOPK_TEST", 40),
            *("MODEL.ANCHOR_GENERATOR.SIZES", [[16, 32]], "INPUT.MIN_SIZE_TEST", 96),
        ]
    )
    return settings


def test_a_checkpoint_of_the_model_zoo_is_read(tmp_path: Path) -> None:
    need_detectron2()
    from detectron2.modeling import build_model
    from detectron2.structures import Boxes

    settings = stock_settings()
    torch.manual_seed(0)
    stock = build_model(settings).eval()
    arrays = {name: tensor.numpy() for name, tensor in stock.state_dict().items()}
    path = tmp_path / "model_final.pkl"
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}))
    path.with_suffix(".yaml").write_text(settings.dump())
    model = read_detector(path).model
    config = model.config
    assert (config.num_classes, config.min_size, config.conventions) == (8, 96, "detectron2")
    assert config.stride_in_1x1
    images = images_for(model)
    with torch.inference_mode():
        c4, features = model.trunk(images.pixels), stock.backbone(images.pixels)
        torch.testing.assert_close(c4, features["res4"], rtol=1e-4, atol=1e-4)
        boxes = torch.tensor([[8.0, 8.0, 70.0, 60.0], [30.0, 0.0, 90.0, 90.0]])
        maps = stock.roi_heads._shared_roi_transform([features["res4"]], [Boxes(boxes + OUTSIDE)])
        vectors = model.region_features(c4, [boxes])
        torch.testing.assert_close(vectors, maps.mean(dim=(2, 3)), rtol=1e-4, atol=1e-4)
        logits, deltas = stock.roi_heads.box_predictor(vectors)
        torch.testing.assert_close(model.class_logits(vectors), logits.roll(1, dims=1))
        torch.testing.assert_close(model.box_deltas(vectors)[:, 4:], deltas)
    assert see(model, images)[0].attributes.scores.sum() == 0  # it knows none


def test_detectron2_reads_the_file_that_we_write(tmp_path: Path) -> None:
    need_detectron2()
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    model = r50_model()
    names = label_map_of((f"c{n}" for n in range(1, 6)), (f"a{n}" for n in range(1, 9)))
    save_detectron2(tmp_path, model, names)
    register()
    settings = get_cfg()
    add_settings(settings)
    settings.merge_from_file(str(tmp_path / "detector.yaml"))
    settings.MODEL.DEVICE = "cpu"
    built = build_model(settings).eval()
    DetectionCheckpointer(built).load(str(tmp_path / "detector.pth"))
    images = images_for(model)
    theirs = detected(built, model, images)
    assert torch.equal(theirs.pred_classes + 1, see(model, images)[0].class_ids)
    assert read_detector(tmp_path / "detector.pth").model.config == model.config
