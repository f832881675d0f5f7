import pytest
import torch
from torch import Tensor

from detector.errors import CheckpointError
from detector.model import AttributeRCNN
from detector.published.checkpoint_names import from_published, to_published
from detector.published.detectron2_names import (
    FROZEN_EPS,
    from_detectron2,
    is_detectron2,
    name_in_detectron2,
    to_detectron2,
)
from tests.builders_detector import tiny_model

RATIOS = 3  # of tiny_model
CLASSES, ATTRIBUTES, DEPTH = 6, 9, 64  # of tiny_model: with background; width of a feature
OBJECTNESS = "proposal_generator.rpn_head.objectness_logits.bias"
DELTAS = "proposal_generator.rpn_head.anchor_deltas.bias"
SCORES = "roi_heads.box_predictor.cls_score."
BOXES = "roi_heads.box_predictor.bbox_pred."


def with_statistics(model: AttributeRCNN) -> AttributeRCNN:
    """Normalisation that does something."""
    for name, buffer in model.named_buffers():
        if name.endswith(("running_var", "norm1.weight", "bias")):
            buffer.uniform_(0.5, 2.0)
    return model


def published_of(model: AttributeRCNN) -> dict[str, Tensor]:
    return to_published(model.state_dict(), model.cell_anchors)


def foreign_of(model: AttributeRCNN) -> dict[str, Tensor]:
    return to_detectron2(published_of(model), num_ratios=RATIOS)


def without_head(foreign: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: t for n, t in foreign.items() if not n.startswith("roi_heads.attribute_head.")}


@pytest.mark.parametrize("agnostic", [False, True])
def test_what_was_written_for_detectron2_comes_back(agnostic: bool) -> None:
    model = with_statistics(tiny_model(class_agnostic_boxes=agnostic))
    back = from_published(from_detectron2(foreign_of(model)), model.cell_anchors)
    for name, tensor in model.state_dict().items():
        if name.startswith("box_head.box_deltas."):
            assert torch.equal(back[name][4:], tensor[4:])
            assert not back[name][:4].any()  # detectron2 has no box of the background
        else:
            torch.testing.assert_close(back[name], tensor, rtol=1e-6, atol=0)
    assert back.keys() == model.state_dict().keys()


def test_names_are_told_from_those_of_the_other_program() -> None:
    model = tiny_model()
    assert is_detectron2(foreign_of(model))
    assert not is_detectron2(published_of(model))
    assert is_detectron2(["backbone.bottom_up.res2.0.conv1.weight"])  # to be refused with a reason
    assert is_detectron2(["conv1_w", "res2_0_branch2a_w"])


def test_anchors_are_ordered_size_by_size_there() -> None:
    model = tiny_model()  # two sizes, three ratios: ours is ratio * 2 + size
    with torch.no_grad():
        model.rpn_head.logits.bias.copy_(torch.arange(6.0))
        model.rpn_head.deltas.bias.copy_(torch.arange(24.0))
    foreign = foreign_of(model)
    assert foreign[OBJECTNESS].tolist() == [0, 2, 4, 1, 3, 5]
    assert foreign[DELTAS].view(6, 4)[:, 0].tolist() == [0, 8, 16, 4, 12, 20]
    assert foreign[DELTAS].view(6, 4)[1].tolist() == [8, 9, 10, 11]


def test_the_background_is_last_there_and_has_no_box() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.box_head.class_logits.bias.copy_(torch.arange(6.0))
        model.box_head.box_deltas.bias.copy_(torch.arange(24.0))
        model.attribute_head.class_embedding.weight[:, 0] = torch.arange(6.0)
    foreign = foreign_of(model)
    assert foreign[SCORES + "bias"].tolist() == [1, 2, 3, 4, 5, 0]
    assert foreign[BOXES + "bias"].tolist() == list(range(4, 24))
    embedding = foreign["roi_heads.attribute_head.class_embedding.weight"]
    assert embedding[:, 0].tolist() == [1, 2, 3, 4, 5, 0]


def test_the_variance_is_less_by_what_is_added_there() -> None:
    model = with_statistics(tiny_model())
    variance = foreign_of(model)["backbone.res2.0.conv1.norm.running_var"]
    assert (
        variance.add(FROZEN_EPS).sub(model.trunk.stages[0][0].norm1.running_var).abs().max() < 1e-6
    )


def test_a_network_without_attributes_never_names_one() -> None:
    foreign = without_head(foreign_of(tiny_model()))
    published = from_detectron2(foreign)
    bias = published["attribute.predictor.attr_score.bias"]
    assert bias.softmax(0).tolist() == [1.0, 0.0]
    assert published["attribute.predictor.cls_embedding.weight"].shape == (CLASSES, 1)
    assert published["attribute.predictor.fc_attr.weight"].shape == (1, DEPTH + 1)


def test_attribute_heads_of_bottom_up_attention_and_grid_features() -> None:
    model = tiny_model()
    foreign = foreign_of(model)
    ours = {n: t for n, t in foreign.items() if n not in without_head(foreign)}
    parts = [t for _, t in sorted(ours.items())]
    embedding, hidden_b, hidden_w, logits_b, logits_w = parts
    bottom_up = without_head(foreign) | {
        "roi_heads.box_predictor.cls_embedding.weight": embedding,
        "roi_heads.box_predictor.fc_attr.weight": hidden_w,
        "roi_heads.box_predictor.fc_attr.bias": hidden_b,
        "roi_heads.box_predictor.attr_score.weight": logits_w.roll(-1, dims=0),
        "roi_heads.box_predictor.attr_score.bias": logits_b.roll(-1, dims=0),
    }
    grid = without_head(foreign) | {
        "roi_heads.attribute_predictor.obj_embed.weight": embedding,
        "roi_heads.attribute_predictor.fc.0.weight": hidden_w,
        "roi_heads.attribute_predictor.fc.0.bias": hidden_b,
        "roi_heads.attribute_predictor.attr_score.weight": logits_w[1:],
        "roi_heads.attribute_predictor.attr_score.bias": logits_b[1:],
    }
    wanted = from_detectron2(foreign)
    for name, tensor in from_detectron2(bottom_up).items():
        assert torch.equal(tensor, wanted[name]), name
    name = "attribute.predictor.attr_score."
    found = from_detectron2(grid)
    assert torch.equal(found[name + "weight"][1:], wanted[name + "weight"][1:])
    logits = found[name + "bias"]
    assert len(logits) == ATTRIBUTES
    assert logits.softmax(0)[0] == 0  # "no attribute" was not among its classes


def test_the_older_heads_of_bottom_up_attention_in_both_orders_of_classes() -> None:
    model = tiny_model()
    published, foreign = published_of(model), foreign_of(model)
    head = "roi_heads.box_predictor."
    names = {
        "cls_embedding.weight": head + "cls_embed.weight",
        "fc_attr.weight": head + "attr_linear1.weight",
        "fc_attr.bias": head + "attr_linear1.bias",
        "attr_score.weight": head + "attr_linear2.weight",
        "attr_score.bias": head + "attr_linear2.bias",
    }
    tensors = {new: published[f"attribute.predictor.{old}"] for old, new in names.items()}
    of_caffe = without_head(foreign) | tensors
    for kind in ("weight", "bias"):
        of_caffe[SCORES + kind] = published[f"roi_heads.box.predictor.cls_score.{kind}"]
        of_caffe[BOXES + kind] = published[f"roi_heads.box.predictor.bbox_pred.{kind}"]
    found = from_published(from_detectron2(of_caffe), model.cell_anchors)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=0)
    of_detectron2 = without_head(foreign) | tensors
    of_detectron2[head + "cls_embed.weight"] = tensors[head + "cls_embed.weight"].roll(-1, dims=0)
    for kind in ("weight", "bias"):
        of_detectron2[f"{head}attr_linear2.{kind}"] = tensors[f"{head}attr_linear2.{kind}"][1:]
    found = from_published(from_detectron2(of_detectron2), model.cell_anchors)
    for name in ("class_embedding.weight", "hidden.weight"):
        ours = f"attribute_head.{name}"
        assert torch.equal(found[ours], model.state_dict()[ours])
    assert torch.equal(
        found["attribute_head.logits.weight"][1:], model.attribute_head.logits.weight[1:]
    )


def test_half_an_attribute_head_is_refused() -> None:
    foreign = foreign_of(tiny_model())
    del foreign["roi_heads.attribute_head.hidden.bias"]
    with pytest.raises(CheckpointError, match=r"attribute_head\.hidden\.bias' is missing"):
        from_detectron2(foreign)


def as_caffe2(foreign: dict[str, Tensor]) -> dict[str, Tensor]:
    """As the older program stores it: factor and summand, background first, ratio by ratio."""
    model_rows = {SCORES: 1, "roi_heads.box_predictor.cls_embedding.": 1}
    found = {}
    for name, tensor in without_head(foreign).items():
        for head, shift in model_rows.items():
            if name.startswith(head):
                tensor = tensor.roll(shift, dims=0)
        if name.startswith(BOXES):
            tensor = torch.cat((torch.zeros_like(tensor[:4]), tensor))
        if name.startswith(("proposal_generator.rpn_head.obj", "proposal_generator.rpn_head.anc")):
            parts = tensor.reshape(2, RATIOS, -1, *tensor.shape[1:])
            tensor = parts.transpose(0, 1).reshape(tensor.shape)
        if ".running_" in name:
            continue
        for there, here in (
            ("backbone.stem.conv1.norm.", "res_conv1_bn."),
            ("backbone.stem.", ""),
            ("backbone.", ""),
            ("roi_heads.res5", "res5"),
            ("roi_heads.box_predictor.", ""),
            ("proposal_generator.rpn_head.conv", "conv_rpn"),
            ("proposal_generator.rpn_head.objectness_logits", "rpn_cls_logits"),
            ("proposal_generator.rpn_head.anchor_deltas", "rpn_bbox_pred"),
            ("shortcut", "branch1"),
            (".norm.weight", "_bn_s"),
            (".norm.bias", "_bn_b"),
            ("bn.weight", "bn_s"),
            ("bn.bias", "bn_b"),
            (".weight", "_w"),
            (".bias", "_b"),
        ):
            name = name.replace(there, here)
        if name != "conv1_w":
            for number, letter in ((1, "a"), (2, "b"), (3, "c")):
                name = name.replace(f".conv{number}_", f".branch2{letter}_")
        found[name.replace(".", "_")] = tensor
    return found


def test_names_of_caffe2() -> None:
    model = tiny_model()
    foreign = foreign_of(model)
    caffe2 = as_caffe2(foreign)
    assert {"conv1_w", "res_conv1_bn_s", "res2_0_branch2a_bn_b", "res5_0_branch1_w"} <= set(caffe2)
    assert {"conv_rpn_w", "rpn_cls_logits_b", "rpn_bbox_pred_w", "cls_score_w"} <= set(caffe2)
    found, wanted = from_detectron2(caffe2), from_detectron2(without_head(foreign))
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-6)


def test_tensors_of_caffe2_are_named_as_in_its_file() -> None:
    caffe2 = as_caffe2(foreign_of(tiny_model()))
    for published, name in (
        ("backbone.body.layer1.0.bn2.weight", "res2_0_branch2b_bn_s"),
        ("backbone.body.layer3.0.downsample.0.weight", "res4_0_branch1_w"),
        ("backbone.body.stem.bn1.bias", "res_conv1_bn_b"),
        ("rpn.head.cls_logits.bias", "rpn_cls_logits_b"),
        ("roi_heads.box.predictor.bbox_pred.weight", "bbox_pred_w"),
    ):
        assert name in caffe2
        assert name_in_detectron2(published, caffe2.keys()) == name
    del caffe2["bbox_pred_w"]
    with pytest.raises(CheckpointError, match="'bbox_pred_w' is missing"):
        from_detectron2(caffe2)
    with pytest.raises(CheckpointError, match="unknown tensor 'mask_fcn_logits_w'"):
        from_detectron2(caffe2 | {"mask_fcn_logits_w": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="'cls_score_b' is a single number"):
        from_detectron2(caffe2 | {"cls_score_b": torch.tensor(1.0)})


def test_of_one_layer_no_statistic_may_be_missing() -> None:
    foreign = foreign_of(tiny_model())
    del foreign["backbone.res2.0.conv1.norm.running_mean"]
    assert "backbone.body.layer1.0.bn1.running_mean" not in from_detectron2(foreign)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("backbone.bottom_up.res2.0.conv1.weight", "feature pyramid"),
        ("backbone.res5.0.conv1.weight", "whole image"),
        ("roi_heads.box_head.fc1.weight", "box head of its own"),
        ("backbone.res4.0.conv2_offset.weight", "deformable"),
        ("roi_heads.relation_head.weight", "unknown tensor"),
    ],
)
def test_other_networks_are_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason) as refusal:
        from_detectron2(foreign_of(tiny_model()) | {name: torch.zeros(1)})
    assert name in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        (OBJECTNESS, (5,)),
        ("proposal_generator.rpn_head.conv.weight", (32,)),
        (SCORES + "bias", ()),
        ("backbone.stem.conv1.weight", ()),
    ],
)
def test_misshapen_tensors_are_refused_by_name(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(CheckpointError, match=r"shape|single number") as refusal:
        from_detectron2(foreign_of(tiny_model()) | {name: torch.zeros(shape)})
    assert name in str(refusal.value)


def test_caffes_proposal_head_is_refused_with_the_reason() -> None:
    foreign = foreign_of(tiny_model())
    conv = foreign["proposal_generator.rpn_head.conv.weight"]
    with pytest.raises(CheckpointError, match=r"32 channels into 16.*bottom-up attention"):
        from_detectron2(foreign | {"proposal_generator.rpn_head.conv.weight": conv[:16]})
    doubled = foreign[OBJECTNESS].repeat(2)
    weight = foreign[OBJECTNESS.replace("bias", "weight")].repeat(2, 1, 1, 1)
    with pytest.raises(CheckpointError, match="two logits an anchor"):
        from_detectron2(
            foreign | {OBJECTNESS: doubled, OBJECTNESS.replace("bias", "weight"): weight}
        )


def test_what_is_left_out_may_be_there() -> None:
    foreign = foreign_of(tiny_model())
    more = {
        "roi_heads.mask_head.deconv.weight": torch.zeros(1),
        "pixel_mean": torch.zeros(3, 1, 1),
        "proposal_generator.anchor_generator.cell_anchors.0": torch.zeros(6, 4),
    }
    assert from_detectron2(foreign | more).keys() == from_detectron2(foreign).keys()


def test_ratios_that_do_not_fit_the_anchors_are_refused() -> None:
    with pytest.raises(CheckpointError, match="6 anchors per cell cannot have 4 aspect ratios"):
        from_detectron2(foreign_of(tiny_model()), num_ratios=4)
