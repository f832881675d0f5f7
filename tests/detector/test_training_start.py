"""What a training starts from: ImageNet weights, other detectors, and what is drawn anew."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

from detector.anchors import cell_anchors
from detector.checkpoints import save_detector
from detector.constants import IMAGENET_MEAN_RGB, IMAGENET_STD_RGB
from detector.errors import CheckpointError
from detector.model import AttributeRCNN
from detector.preprocess import normalise
from detector.published.checkpoint_names import to_published
from detector.training.start import start_from
from storage.published.label_maps import LabelMap, label_map_of
from tests.builders_detector import photo, tiny_config, tiny_model

OF_TORCHVISION = {
    "blocks": (1, 2, 1),
    "stem_width": 64,
    "res2_width": 256,
    "groups": 2,
    "width_per_group": 8,
    "num_classes": 3,
    "num_attributes": 2,
}
LABELS = label_map_of(["cat", "dog"], ["red"])


def labels_of(*classes: str, num: int = 6, attributes: int = 9) -> LabelMap:
    more = [f"thing {number}" for number in range(num - 1 - len(classes))]
    return label_map_of([*classes, *more], [f"look {number}" for number in range(1, attributes)])


def resnet(seed: int = 0) -> ResNet:
    """Torchvision's, with statistics as after a training."""
    torch.manual_seed(seed)
    network = ResNet(Bottleneck, [1, 2, 1, 3], groups=2, width_per_group=8)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)
            nn.init.uniform_(layer.running_var, 0.05, 1.5)
            nn.init.uniform_(layer.weight, 0.3, 0.8)
    return network.eval()


def map_of(network: ResNet, pixels: Tensor) -> Tensor:
    """The last map of torchvision's network."""
    for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
        pixels = getattr(network, name)(pixels)
    return pixels


@pytest.mark.parametrize("norm", ["frozen", "batch"])
@pytest.mark.parametrize("is_bgr", [True, False])
def test_a_network_of_torchvision_computes_the_same_here(
    tmp_path: Path, norm: str, is_bgr: bool
) -> None:
    network = resnet()
    torch.save(network.state_dict(), tmp_path / "resnet.pth")
    changes = {"norm": norm}
    if not is_bgr:
        changes |= {
            "channel_order": "rgb",
            "pixel_mean": IMAGENET_MEAN_RGB,
            "pixel_std": IMAGENET_STD_RGB,
        }
    config = tiny_config(**OF_TORCHVISION, res5_blocks=3, **changes)
    model = AttributeRCNN(config).eval()
    start_from(tmp_path / "resnet.pth", model, LABELS)
    pixels = photo(64, 96)
    theirs = (pixels / 255 - np.array(IMAGENET_MEAN_RGB) / 255) / (np.array(IMAGENET_STD_RGB) / 255)
    with torch.no_grad():
        wanted = map_of(network, torch.from_numpy(theirs).float().permute(2, 0, 1)[None])
        found = model.res5(model.trunk(normalise(pixels, config)[None]))
    assert wanted.abs().max() > 0.1
    assert found.allclose(wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def detectron2_name(name: str) -> str:
    """As detectron2's converter names a tensor of torchvision."""
    if "layer" not in name:
        name = "stem." + name
    for stage in range(1, 5):
        name = name.replace(f"layer{stage}", f"res{stage + 1}")
    name = re.sub(r"bn([123])", r"conv\1.norm", name)
    return name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")


def caffe2_name(name: str) -> str:
    """As Caffe2 names a tensor of detectron2; no statistics but factor and summand."""
    if name.startswith("stem.fc."):
        return name.replace("stem.fc.", "pred_")
    name = name.replace("stem.conv1.norm", "res.conv1.bn").replace("stem.", "")
    for number, letter in enumerate("abc", start=1):
        name = re.sub(rf"(res\d\.\d+)\.conv{number}", rf"\1.branch2{letter}", name)
    name = name.replace("shortcut", "branch1").replace(".norm", ".bn").replace("bn.weight", "bn.s")
    return re.sub(r"weight$", "w", re.sub(r"bias$", "b", name)).replace(".", "_")


@pytest.mark.parametrize("is_caffe2", [True, False])
def test_a_pickled_trunk_computes_the_same_here(tmp_path: Path, is_caffe2: bool) -> None:
    network = resnet()
    if is_caffe2:
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.zeros_(layer.running_mean)
                nn.init.constant_(layer.running_var, 1 - layer.eps)
    content = {detectron2_name(name): each.numpy() for name, each in network.state_dict().items()}
    if is_caffe2:
        content = {caffe2_name(n): each for n, each in content.items() if ".running" not in n}
        content = {n: each for n, each in content.items() if "tracked" not in n}
    (tmp_path / "trunk.pkl").write_bytes(pickle.dumps({"model": content}, protocol=2))
    pixels = {
        "channel_order": "rgb",
        "pixel_mean": IMAGENET_MEAN_RGB,
        "pixel_std": IMAGENET_STD_RGB,
    }
    config = tiny_config(**OF_TORCHVISION, res5_blocks=3, **pixels)
    model = AttributeRCNN(config).eval()
    started = start_from(tmp_path / "trunk.pkl", model, LABELS)
    assert started.drawn_anew.startswith("rpn_head.conv")
    inputs = normalise(photo(64, 96), config)[None]
    with torch.no_grad():
        wanted, found = map_of(network, inputs), model.res5(model.trunk(inputs))
    assert found.allclose(wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_heads_that_an_imagenet_network_lacks_are_told(tmp_path: Path) -> None:
    torch.save(resnet().state_dict(), tmp_path / "resnet.pth")
    model = AttributeRCNN(tiny_config(**OF_TORCHVISION, res5_blocks=3))
    started = start_from(tmp_path / "resnet.pth", model, LABELS)
    assert started.drawn_anew.startswith("rpn_head.conv, rpn_head.logits")
    assert started.left_out == ""
    assert len(started.digest) == 64


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"res5_blocks": 2}, r"\d+ tensors have no place .* 'res5.blocks.2"),
        ({"blocks": (1, 2, 2)}, "'trunk.stages.2.1.conv1.weight' is missing"),
        ({"groups": 1}, "has shape .* the configured network needs"),
        ({"stride_in_1x1": True}, "`stride_in_1x1: false`"),
        ({"pixel_mean": (100.0, 100.0, 100.0)}, "learned with ImageNet's mean"),
    ],
)
def test_an_imagenet_network_that_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    torch.save(resnet().state_dict(), tmp_path / "resnet.pth")
    model = AttributeRCNN(tiny_config(**(OF_TORCHVISION | {"res5_blocks": 3} | changes)))
    with pytest.raises(CheckpointError, match=said):
        start_from(tmp_path / "resnet.pth", model, LABELS)


def test_rows_of_a_detector_go_by_name(tmp_path: Path) -> None:
    before = tiny_model(1)
    save_detector(tmp_path / "before", before, labels_of("cat", "dog", "cow"))
    model = tiny_model(2, num_classes=4)
    new = model.box_head.class_logits.weight.clone()
    started = start_from(tmp_path / "before", model, labels_of("dog", "frog", "cat", num=4))
    given, filled = before.box_head.class_logits.weight, model.box_head.class_logits.weight
    for place, number in ((0, 0), (1, 2), (3, 1)):  # background, dog, cat
        assert torch.equal(filled[place], given[number])
        assert torch.equal(
            model.box_head.box_deltas.weight[4 * place : 4 * place + 4],
            before.box_head.box_deltas.weight[4 * number : 4 * number + 4],
        )
    assert torch.equal(filled[2], new[2])
    assert torch.equal(model.attribute_head.logits.weight, before.attribute_head.logits.weight)
    assert started.drawn_anew == "rows of 1 of 3 classes"


def test_other_anchors_take_all_but_their_own_heads(tmp_path: Path) -> None:
    before, labels = tiny_model(1), labels_of()
    save_detector(tmp_path / "before", before, labels)
    model = tiny_model(2, anchor_sizes=(16, 40, 80))
    started = start_from(tmp_path / "before", model, labels)
    assert started.drawn_anew == "rpn_head.logits, rpn_head.deltas"
    assert torch.equal(model.rpn_head.conv.weight, before.rpn_head.conv.weight)
    assert torch.equal(model.box_head.box_deltas.weight, before.box_head.box_deltas.weight)


def test_a_published_detector_without_names_gives_rows_by_number(tmp_path: Path) -> None:
    before = tiny_model(1, anchor_sizes=(32, 64))
    config = before.config
    anchors = cell_anchors(config.anchor_sizes, config.aspect_ratios, config.anchor_stride)
    published = to_published(before.state_dict(), anchors, with_aliases=False)
    save_file(
        {name: each.contiguous() for name, each in published.items()}, tmp_path / "x.safetensors"
    )
    same, other = tiny_model(2, anchor_sizes=(32, 64)), tiny_model(2, num_classes=9)
    assert start_from(tmp_path / "x.safetensors", same, labels_of("cat")).drawn_anew == ""
    assert torch.equal(same.box_head.class_logits.weight, before.box_head.class_logits.weight)
    started = start_from(tmp_path / "x.safetensors", other, labels_of("cat", num=9))
    assert started.drawn_anew == (
        "box_head.class_logits, box_head.box_deltas, attribute_head.class_embedding"
    )
    assert torch.equal(
        other.res5.state_dict()["blocks.0.conv1.weight"],
        before.res5.state_dict()["blocks.0.conv1.weight"],
    )


def test_a_folder_without_a_detector_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="missing"):
        start_from(tmp_path, tiny_model(), labels_of())
