"""Weights of any layout to regions, by one call."""

import errno
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from detector import load_detector
from detector.checkpoints import read_detector, save_detector
from detector.config import RULES, DetectorConfig, RegionRules
from detector.detect import detect
from detector.errors import CheckpointError, DetectorConfigError, DetectorError
from detector.loaded import check_named
from detector.model import AttributeRCNN
from detector.published.checkpoint_names import CELL_ANCHORS, to_published
from detector.published.detectron2_names import to_detectron2
from storage.published.label_maps import LabelMap, label_map_of, write_label_map
from storage.records import ImageRegions
from tests.builders_detector import decoded, photo, tiny_model

UNSEEN = {  # what tiny networks have other than published, and tensors do not tell
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 6,
    "MODEL.RPN.PRE_NMS_TOP_N_TEST": 100,
    "MODEL.RPN.POST_NMS_TOP_N_TEST": 12,
    "INPUT.MIN_SIZE_TEST": 64,
    "INPUT.MAX_SIZE_TEST": 96,
}
YAML = """
MODEL:
  ROI_BOX_HEAD: {POOLER_RESOLUTION: 6}
  RPN: {PRE_NMS_TOP_N_TEST: 100, POST_NMS_TOP_N_TEST: 12, ASPECT_RATIOS: "(0.5, 1.0, 2.0)"}
  ROI_HEADS: {SCORE_THRESH: 0.3}
INPUT: {MIN_SIZE_TEST: 64, MAX_SIZE_TEST: 96}
DATA_DIR: "./datasets"
"""


def labels(model: AttributeRCNN) -> LabelMap:
    return label_map_of(
        (f"thing {n}" for n in range(1, model.config.num_classes)),
        (f"kind {n}" for n in range(1, model.config.num_attributes)),
    )


def published(model: AttributeRCNN) -> dict[str, Tensor]:
    return to_published(model.state_dict(), model.cell_anchors)


def written(folder: Path, weights: dict[str, Tensor], name: str = "weights.pth") -> Path:
    path = folder / name
    if path.suffix == ".safetensors":
        save_file({key: tensor.clone() for key, tensor in weights.items()}, path)
    else:
        torch.save({"model": weights, "iteration": 60000}, path)
    return path


def same_regions(one: ImageRegions, other: ImageRegions) -> None:
    assert one.class_names == other.class_names
    assert one.attribute_names == other.attribute_names
    np.testing.assert_allclose(one.boxes, other.boxes, atol=2e-2)
    np.testing.assert_allclose(one.features, other.features, rtol=1e-3, atol=2e-3)


def test_a_published_file_sees_what_its_network_sees(tmp_path: Path) -> None:
    model = tiny_model(blocks=(2, 1, 2), res5_blocks=2)
    write_label_map(tmp_path / "names.json", labels(model))
    wrapped = {f"module.{name}": tensor for name, tensor in published(model).items()}
    path = written(tmp_path, wrapped)
    rules = model.config.regions
    detector = load_detector(path, tmp_path / "names.json", preset=rules, settings=UNSEEN)
    assert detector.config == model.config
    [wanted] = detect(model, [decoded()], labels(model))
    same_regions(detector.detect([decoded()])[0], wanted)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"class_agnostic_boxes": True, "num_classes": 5},
        {"groups": 1, "width_per_group": 6, "res5_inner_width": 20},
        {"anchor_sizes": (10.5, 33.0, 90.0), "aspect_ratios": (0.4, 1.0, 2.5, 4.0)},
    ],
)
def test_tensors_tell_every_size(changes: dict[str, Any], tmp_path: Path) -> None:
    model = tiny_model(**changes)
    path = written(tmp_path, published(model), "weights.safetensors")
    found = load_detector(path, settings=UNSEEN).config
    assert replace(found, regions=model.config.regions) == model.config


def test_what_tensors_do_not_tell_is_assumed_and_said(tmp_path: Path) -> None:
    detector = load_detector(written(tmp_path, published(tiny_model())))
    usual = DetectorConfig()
    assert detector.config.pooled_size == usual.pooled_size
    assert detector.config.min_size == usual.min_size
    said = "\n".join(detector.assumed)
    assert "stride_in_1x1 = False" in said
    assert "min_size = 600" in said
    assert "num_classes" not in said
    assert detector.label_map.class_names[1:3] == ("1", "2")
    assert "give a label map" in said


def test_a_settings_file_beside_the_weights_counts(tmp_path: Path) -> None:
    path = written(tmp_path, published(tiny_model()))
    path.with_suffix(".yaml").write_text(YAML)
    detector = load_detector(path)
    assert detector.config.pooled_size == 6
    assert detector.config.regions == RegionRules(score_threshold=0.3)
    assert not [line for line in detector.assumed if line.startswith("min_size")]
    assert load_detector(path, preset="vinvl_readme").config.regions == RULES["vinvl_readme"]


def test_a_label_map_beside_the_weights_counts_and_is_said(tmp_path: Path) -> None:
    model = tiny_model()
    write_label_map(tmp_path / "VG-SGG-dicts-mine.json", labels(model))
    detector = load_detector(written(tmp_path, published(model)))
    assert detector.label_map.class_names[1] == "thing 1"
    assert "VG-SGG-dicts-mine.json" in detector.assumed[-1]


def test_a_label_map_without_attributes_leaves_them_to_numbers(tmp_path: Path) -> None:
    path = written(tmp_path, published(tiny_model()))
    found = read_detector(path, label_map_of("abcde")).label_map
    assert found.class_names[1:] == tuple("abcde")
    assert found.attribute_names[1:] == tuple("12345678")
    assert not found.is_numbered


def test_a_folder_whose_names_are_numbers_is_given_names(tmp_path: Path) -> None:
    model = tiny_model()
    save_detector(
        tmp_path / "bare", model, read_detector(written(tmp_path, published(model))).label_map
    )
    bare = read_detector(tmp_path / "bare")
    assert bare.label_map.is_numbered
    with pytest.raises(CheckpointError, match=r"no names but numbers.* --labelmap FILE"):
        check_named(bare, "bare")
    named = read_detector(tmp_path / "bare", labels(model))
    check_named(named, "bare")
    assert named.label_map == labels(model)
    assert named.fingerprint != bare.fingerprint


def test_settings_of_another_network_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, published(tiny_model()))
    with pytest.raises(CheckpointError, match="num_classes = 6, the settings say 1595"):
        load_detector(path, settings={"MODEL.ROI_BOX_HEAD.NUM_CLASSES": 1595})
    with pytest.raises(DetectorConfigError, match=r"MODEL\.RELATION_ON"):
        load_detector(path, settings={"MODEL.RELATION_ON": True})
    (tmp_path / "odd.yaml").write_text("- 1\n")
    with pytest.raises(DetectorConfigError, match=r"odd\.yaml"):
        load_detector(path, settings=tmp_path / "odd.yaml")
    names = tmp_path / "labelmap.json"
    write_label_map(names, labels(tiny_model()))
    with pytest.raises(DetectorConfigError, match=f"^{names}: .*unknown name 'attribute_to_idx"):
        load_detector(path, settings=names)


def test_a_label_map_of_another_network_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, published(tiny_model()))
    with pytest.raises(CheckpointError, match="3 names"):
        load_detector(path, label_map_of(["cat", "dog"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone.body.layer2.0.conv2.weight": None}, "missing"),
        ({"roi_heads.box.predictor.cls_score.weight": None}, r"cls_score\.weight' is missing"),
        ({"relation.head.weight": torch.zeros(2)}, r"unknown tensor 'relation\.head\.weight'"),
        ({"rpn.head.conv.weight": torch.zeros(4, 4, 3, 3)}, r"'rpn\.head\.conv\.weight' has shape"),
        ({"roi_heads.box.predictor.bbox_pred.weight": torch.zeros(9, 64)}, "24 rows, or 8"),
        ({"backbone.body.layer3.7.conv1.weight": torch.zeros(1)}, r"'backbone\.body\.layer3\.1"),
        ({"backbone.body.layer2.0.bn2.spare": torch.zeros(1)}, r"first 'backbone\.\S+bn2\.spare'"),
        (
            {"backbone.body.layer2.0.norm2.bias": torch.zeros(8)},
            r"unknown tensor 'backbone\.\S+norm2",
        ),
        (
            {"backbone.body.layer1.0.downsample.1.bias": None},
            r"'backbone\.\S+\.1\.bias' is missing",
        ),
        ({"backbone.body.layer1.0.conv2.weight": torch.zeros(0)}, r"layer1\.0\.conv2"),
        ({"rpn.anchor_generator.cell_anchors.0": torch.zeros(6, 4)}, "anchors"),
        ({"attribute.predictor.attr_score.weight": torch.zeros(9, 5, 1)}, "2 axes"),
    ],
)
def test_tensors_that_do_not_make_a_network_are_named(
    change: dict[str, Tensor | None], message: str, tmp_path: Path
) -> None:
    changed = published(tiny_model()) | change
    weights = {name: tensor for name, tensor in changed.items() if tensor is not None}
    path = written(tmp_path, weights)
    with pytest.raises(CheckpointError, match=message) as refusal:
        load_detector(path)
    assert str(refusal.value).startswith(f"{path}: ")


D2_BLOCK = "backbone.res3.0."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({D2_BLOCK + "conv2.weight": None}, f"tensor '{D2_BLOCK}conv2.weight' is missing"),
        ({D2_BLOCK + "conv2.norm.bias": None}, f"tensor '{D2_BLOCK}conv2.norm.bias' is missing"),
        (
            {D2_BLOCK + "conv2.norm.running_mean": None},
            f"'{D2_BLOCK}conv2.norm.running_mean' is mi",
        ),
        ({D2_BLOCK + "shortcut.weight": torch.zeros(3)}, f"'{D2_BLOCK}shortcut.weight' has shape"),
        ({D2_BLOCK + "conv1.norm.spare": torch.zeros(3)}, f"first '{D2_BLOCK}conv1.norm.spare'"),
        ({D2_BLOCK + "bn1.bias": torch.zeros(8)}, f"unknown tensor '{D2_BLOCK}bn1.bias'"),
        ({"roi_heads.box_predictor.cls_score.weight": None}, "cls_score.weight' is missing"),
        ({"roi_heads.box_predictor.bbox_pred.bias": None}, "box_predictor.bbox_pred.bias' is miss"),
        (
            {"roi_heads.attribute_head.hidden.weight": torch.zeros(5, 2)},
            "'roi_heads.attribute_head.hidden.weight' has shape (5, 2)",
        ),
        (
            {"proposal_generator.rpn_head.anchor_deltas.weight": torch.zeros(9, 32, 1, 1)},
            "'proposal_generator.rpn_head.anchor_deltas.weight' has 9",
        ),
    ],
)
def test_tensors_of_detectron2_are_named_as_in_its_file(
    change: dict[str, Tensor | None], message: str, tmp_path: Path
) -> None:
    changed = to_detectron2(published(tiny_model()), num_ratios=3) | change
    weights = {name: tensor for name, tensor in changed.items() if tensor is not None}
    anchors = {"MODEL.ANCHOR_GENERATOR.SIZES": [[16, 40]]}
    path = written(tmp_path, weights)
    with pytest.raises(CheckpointError, match=re.escape(message)) as refusal:
        load_detector(path, settings=anchors)
    assert str(refusal.value).startswith(f"{path}: ")


def test_weights_that_may_not_be_read_are_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_detector(tmp_path, tiny_model(), labels(tiny_model()))
    reach = Path.open

    def refuse(path: Path, *arguments: Any, **named: Any) -> Any:
        if path.suffix == ".safetensors":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return reach(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything
    with pytest.raises(CheckpointError, match=r"detector\.safetensors: cannot be read: Permission"):
        read_detector(tmp_path)
    (tmp_path / "detector.safetensors").rename(tmp_path / "alone.safetensors")
    with pytest.raises(CheckpointError, match=r"alone\.safetensors: cannot be read .*Permission"):
        read_detector(tmp_path / "alone.safetensors")


def test_a_damaged_or_cut_file_is_refused_whatever_torch_makes_of_it(tmp_path: Path) -> None:
    path = written(tmp_path, published(tiny_model()))
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    with pytest.raises(CheckpointError, match=r"weights\.pth: damaged"):
        load_detector(path)
    path.write_bytes(whole[:middle])
    with pytest.raises(CheckpointError, match=r"weights\.pth: cut; download"):
        load_detector(path)


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"text", b"\xff\xd8\xff a photo"])
def test_what_is_no_file_of_weights_is_called_so(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"^{path}: no file of weights but something else"):
        load_detector(path)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    weights = published(tiny_model())
    weights["rpn.head.conv.bias"][1] = torch.nan
    for name in ("weights.pth", "weights.safetensors"):
        with pytest.raises(CheckpointError, match=r"rpn\.head\.conv\.bias' holds numbers that are"):
            load_detector(written(tmp_path, weights, name))


def test_weights_in_half_precision_are_read(tmp_path: Path) -> None:
    weights = published(tiny_model())
    anchors = {CELL_ANCHORS: weights.pop(CELL_ANCHORS)}
    halved = {name: tensor.half() for name, tensor in weights.items()} | anchors
    detector = load_detector(written(tmp_path, halved))
    assert len(detector.detect([decoded()])) == 1


def test_what_a_file_holds_instead_of_weights_is_said(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"optimizer": {"lr": 0.1}, "iteration": 3}, path)
    with pytest.raises(CheckpointError, match="'model' or 'state_dict'; it holds optimizer, iter"):
        load_detector(path)
    torch.save({"state_dict": published(tiny_model()), "epoch": 3}, path)
    assert load_detector(path).config.num_classes == tiny_model().config.num_classes


def test_optimizer_objects_beside_the_weights_are_passed_over(tmp_path: Path) -> None:
    model = tiny_model()
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 4])
    content = {"model": published(model), "optimizer": optimizer, "scheduler": schedule}
    for is_zip in (True, False):
        path = tmp_path / f"zip-{is_zip}.pth"
        torch.save(content, path, _use_new_zipfile_serialization=is_zip)
        assert load_detector(path).config.num_classes == model.config.num_classes


def test_one_detector_has_one_fingerprint_in_every_layout(tmp_path: Path) -> None:
    model = tiny_model()
    names = labels(model)
    save_detector(tmp_path / "folder", model, names)
    path = written(tmp_path, published(model))
    other = written(tmp_path, to_detectron2(published(model), num_ratios=3), "d2.pth")
    anchors = {"MODEL.RPN.ANCHOR_SIZES": (16, 40)}  # detectron2 does not store them
    folder = load_detector(tmp_path / "folder")
    assert folder.fingerprint == load_detector(path, names, settings=UNSEEN).fingerprint
    assert load_detector(path, settings=UNSEEN).fingerprint != folder.fingerprint
    assert load_detector(other, names, settings=UNSEEN | anchors).config == replace(
        model.config, regions=RULES["vinvl_released"]
    )
    with torch.no_grad():
        model.box_head.class_logits.bias[0] += 1
    save_detector(tmp_path / "changed", model, names)
    assert load_detector(tmp_path / "changed").fingerprint != folder.fingerprint


def test_a_folder_has_its_own_names_and_settings(tmp_path: Path) -> None:
    model = tiny_model()
    save_detector(tmp_path, model, labels(model))
    with pytest.raises(CheckpointError, match="its own label map"):
        read_detector(tmp_path, labels(model))
    assert load_detector(tmp_path / "detector.safetensors").config == model.config


def test_photos_come_as_files_arrays_or_records_in_their_order(tmp_path: Path) -> None:
    model = tiny_model()
    save_detector(tmp_path / "detector", model, labels(model))
    detector = load_detector(tmp_path / "detector")
    Image.fromarray(photo(seed=1)).save(tmp_path / "street.png")
    seen = detector.detect([decoded("toys/7"), tmp_path / "street.png", photo(height=80)])
    assert [regions.image_id for regions in seen] == ["toys/7", "street", "2"]
    alone = detector.detect([photo(height=80)])[0]
    assert np.array_equal(seen[2].features, alone.features)
    assert detector.detect([]) == []


def test_a_detector_is_printed_in_one_short_line(tmp_path: Path) -> None:
    model = tiny_model()
    save_detector(tmp_path, model, labels(model))
    said = repr(load_detector(tmp_path))
    assert said.startswith("Detector(exact, 6 classes, 9 attributes, fingerprint ")
    assert len(said) < 150


def test_what_is_no_photo_is_refused(tmp_path: Path) -> None:
    model = tiny_model()
    save_detector(tmp_path / "detector", model, labels(model))
    detector = load_detector(tmp_path / "detector")
    with pytest.raises(DetectorError, match="image 0"):
        detector.detect([np.zeros((4, 4), np.uint8)])
    with pytest.raises(DetectorError, match="list of photos"):
        detector.detect(photo())  # type: ignore[arg-type]  # on purpose


def test_rules_precision_and_presets_that_do_not_exist_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, published(tiny_model()))
    with pytest.raises(DetectorConfigError, match="vinvl_released, vinvl_readme"):
        load_detector(path, preset="vinvl")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(DetectorConfigError, match="exact, fast"):
        load_detector(path, precision="half")  # type: ignore[arg-type]  # on purpose
    for device in ("abacus", "cuda:99"):
        with pytest.raises(DetectorConfigError, match=f"no device '{device}'"):
            load_detector(path, device=device)


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.pth: no file and no folder"):
        load_detector(tmp_path / "gone.pth")
    for odd in (None, 123):
        with pytest.raises(DetectorConfigError, match=f"weights {odd}: want a detector's folder"):
            load_detector(odd)  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"MODEL.ROI_HEADS.NMS_FILTER": 7}, "filter"),
        ({"MODEL.RPN.POST_NMS_TOP_N_TEST": 0}, "post_nms_top_n"),
        ({"MODEL.RPN.POST_NMS_TOP_N_TEST": float("inf")}, "POST_NMS_TOP_N_TEST"),
        ({"INPUT.PIXEL_MEAN": [1.0, 2.0]}, "PIXEL_MEAN"),
        ({"MODEL.ROI_HEADS.BBOX_REG_WEIGHTS": ["a", 1, 1, 1]}, "BBOX_REG_WEIGHTS"),
        ({"MODEL.MASK_FORMAT": "", "MODEL.RPN.NMS_THRESH": "much"}, "proposal_nms_overlap"),
        ({"VERSION": 2, "MODEL.ANCHOR_GENERATOR.SIZES": [["a"]]}, "SIZES cannot be"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = written(tmp_path, published(tiny_model()))
    with pytest.raises(DetectorConfigError, match=message):
        load_detector(path, settings=settings)


def test_tensors_that_are_not_in_the_file_are_refused(tmp_path: Path) -> None:
    changed = published(tiny_model())
    repeated = torch.zeros(1).expand(4096, 4096, 3, 3)
    with pytest.raises(CheckpointError, match="bytes of tensors in a smaller file"):
        load_detector(written(tmp_path, changed | {"rpn.head.conv.weight": repeated}))
    for odd in (torch.zeros(3, 3).to_sparse(), torch.zeros(3, device="meta"), torch.zeros(3) * 1j):
        with pytest.raises(CheckpointError, match=r"conv\.weight' is no plain array"):
            load_detector(written(tmp_path, changed | {"rpn.head.conv.weight": odd}))


def test_one_class_with_one_box_for_all_is_believed(tmp_path: Path) -> None:
    model = tiny_model(num_classes=2, class_agnostic_boxes=True)
    agnostic = UNSEEN | {"MODEL.CLS_AGNOSTIC_BBOX_REG": True}
    assert load_detector(written(tmp_path, published(model)), settings=agnostic).config == replace(
        model.config, regions=RULES["vinvl_released"]
    )


def test_importing_the_room_does_not_import_torch() -> None:
    code = "import sys, detector; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.lower()) is False


@pytest.mark.slow
def test_the_published_network_is_known_by_its_841_tensors(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = AttributeRCNN(DetectorConfig())
    weights = {f"module.{name}": tensor for name, tensor in published(model).items()}
    assert len(weights) == 841
    detector = load_detector(written(tmp_path, weights))
    assert detector.config == DetectorConfig()
    assert detector.config.regions == RULES["vinvl_released"]
