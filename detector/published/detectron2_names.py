"""Weights of detectron2 and of Caffe2's Detectron, to and from the layout of `checkpoint_names`.

Both programs know our network (a ResNet or ResNeXt up to C4, res5 on each region) under other
names and with other orders:

=================  ====================================  =============================
                   scene_graph_benchmark, Caffe2         detectron2
=================  ====================================  =============================
background class   row 0                                 last row
box deltas         four rows for the background as well  none for it
anchors of a cell  aspect ratio outer, size inner        size outer, aspect ratio inner
normalisation      variance as it is; Caffe2: only       1e-5 is added to the variance
                   factor and summand are stored
=================  ====================================  =============================

Every foreign name is used, or left out or refused for a reason that stands here.
Source: `specs/detector.md` 10; detectron2 `checkpoint/c2_model_loading.py`.
"""

import re
from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor

from detector.errors import CheckpointError
from detector.published.detectron2_attributes import (
    attributes_from_detectron2,
    attributes_to_detectron2,
    is_of_attributes,
)

FROZEN_EPS = 1e-5  # detectron2 layers/batch_norm.py:FrozenBatchNorm2d
_STATISTICS = ("weight", "bias", "running_mean", "running_var")
_STAGES = ((f"backbone.res{n + 1}.", f"backbone.body.layer{n}.") for n in (1, 2, 3))
_PLACES = (
    ("backbone.stem.conv1.norm.", "backbone.body.stem.bn1."),
    ("backbone.stem.conv1.", "backbone.body.stem.conv1."),
    *_STAGES,
    ("roi_heads.res5.", "roi_heads.box.feature_extractor.head.layer4."),
    ("proposal_generator.rpn_head.conv.", "rpn.head.conv."),
    ("proposal_generator.rpn_head.objectness_logits.", "rpn.head.cls_logits."),
    ("proposal_generator.rpn_head.anchor_deltas.", "rpn.head.bbox_pred."),
    ("roi_heads.box_predictor.cls_score.", "roi_heads.box.predictor.cls_score."),
    ("roi_heads.box_predictor.bbox_pred.", "roi_heads.box.predictor.bbox_pred."),
)
_LAYERS = (
    (r"\.conv([123])\.norm\.", r".bn\1."),
    (r"\.shortcut\.norm\.", ".downsample.1."),
    (r"\.shortcut\.", ".downsample.0."),
)
_LAYERS_BACK = (
    (r"\.bn([123])\.", r".conv\1.norm."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
    (r"\.downsample\.0\.", ".shortcut."),
)
LEFT_OUT = {
    r"roi_heads\.(mask|keypoint)_head\.": "masks and key points are not looked for",
    r"pixel_(mean|std)$": "a setting; old checkpoints hold a copy of it",
    r"proposal_generator\.anchor_generator\.": "follows from the settings; old checkpoints hold it",
    r".*\.num_batches_tracked$": "nothing reads it",
}
"""Names of detectron2 that are left out, and why."""
REFUSED = {
    r"backbone\.(bottom_up|fpn_)|.*\.fpn": "a feature pyramid; only C4 networks are known here",
    r"backbone\.res5\.": "res5 applied to the whole image (C5 or dilated C5); here it is applied "
    "to each region (C4)",
    r"roi_heads\.box_head\.": "a box head of its own (C5 or feature pyramid); here it is res5",
    r"roi_heads\.res5_bn|backbone\.stem\.norm": "normalisation before each block (ResNet v2)",
    r".*\.(conv2_offset|conv_offset)": "deformable convolutions",
}
"""Names of networks that cannot be built here, and why."""
_CAFFE2 = (  # in this order, after "_" has become "."
    (r"bn\.s$", "norm.weight"),
    (r"bn\.b$", "norm.bias"),
    (r"\.w$", ".weight"),
    (r"\.b$", ".bias"),
    (r"^res\.conv1\.norm\.", "backbone.stem.conv1.norm."),
    (r"^conv1\.", "backbone.stem.conv1."),
    (r"^res([234])\.", r"backbone.res\1."),
    (r"^res5\.", "roi_heads.res5."),
    (r"\.branch1\.", ".shortcut."),
    (r"\.branch2a\.", ".conv1."),
    (r"\.branch2b\.", ".conv2."),
    (r"\.branch2c\.", ".conv3."),
    (r"^conv\.rpn\.", "proposal_generator.rpn_head.conv."),
    (r"^rpn\.cls\.logits\.", "proposal_generator.rpn_head.objectness_logits."),
    (r"^rpn\.bbox\.pred\.", "proposal_generator.rpn_head.anchor_deltas."),
    (r"^cls\.score\.", "roi_heads.box_predictor.cls_score."),
    (r"^bbox\.pred\.", "roi_heads.box_predictor.bbox_pred."),
    (r"^cls\.embedding\.", "roi_heads.box_predictor.cls_embedding."),
    (r"^fc\.attr\.", "roi_heads.box_predictor.fc_attr."),
    (r"^attr\.score\.", "roi_heads.box_predictor.attr_score."),
)


def is_caffe2(names: Collection[str]) -> bool:
    """Whether these are names of Caffe2's Detectron."""
    return "conv1_w" in names and any(re.match(r"res2_\d+_branch2a_w$", name) for name in names)


def is_detectron2(names: Collection[str]) -> bool:
    """Whether these are names of detectron2 or of Caffe2's Detectron."""
    return is_caffe2(names) or any(
        name.startswith(("backbone.stem.", "backbone.bottom_up.", "proposal_generator.rpn_head."))
        for name in names
    )


def is_written_here(names: Collection[str]) -> bool:
    """Whether `to_detectron2` made them: by the attribute head, which has a name of ours."""
    return any(name.startswith("roi_heads.attribute_head.") for name in names)


def from_detectron2(weights: Mapping[str, Tensor], *, num_ratios: int = 3) -> dict[str, Tensor]:
    """Weights under the names and in the orders of `checkpoint_names`, ready for its reader.

    A network without attributes gets a head that never names one.

    Args:
        weights: As in the file, `module.` taken off. Float16 becomes float32.
        num_ratios: Aspect ratios of the anchors; the tensors tell sizes times ratios only.

    Raises:
        CheckpointError: A name that is unknown, or of a network that cannot be built here.
    """
    caffe2 = is_caffe2(weights)
    if caffe2:
        weights = {_from_caffe2(name): tensor for name, tensor in weights.items()}
    _refuse_other_networks(weights)
    for name, tensor in weights.items():
        if not tensor.ndim and not name.endswith("num_batches_tracked"):
            raise CheckpointError(f"detectron2 weights: tensor {name!r} is a single number")
    wanted = {
        name: tensor.detach().float()
        for name, tensor in weights.items()
        if not any(re.match(pattern, name) for pattern in LEFT_OUT)
    }
    of_attributes = {name: t for name, t in wanted.items() if is_of_attributes(name)}
    renamed = {
        _published_name(name): tensor
        for name, tensor in wanted.items()
        if name not in of_attributes
    }
    renamed |= _whole_statistics(renamed)
    background_first = _is_background_first(renamed)
    _change_anchors(renamed, caffe2=caffe2, num_ratios=num_ratios)
    if not background_first:
        _put_background_first(renamed)
    classes = _needed(renamed, "roi_heads.box.predictor.cls_score.weight")
    return renamed | attributes_from_detectron2(
        of_attributes,
        background_first=background_first,
        num_classes=classes.shape[0],
        feature_width=classes.shape[-1],
    )


def to_detectron2(published: Mapping[str, Tensor], *, num_ratios: int) -> dict[str, Tensor]:
    """The way back: weights of `checkpoint_names.to_published` for detectron2.

    What it has no place for goes: the box deltas of the background (which only filter 2 with
    refined boxes looks at), anchors and the second names of shared modules.

    Args:
        published: With or without the aliases.
        num_ratios: Aspect ratios of the anchors.

    Raises:
        CheckpointError: A name that is unknown.
    """
    left_out = ("attribute.feature_extractor.", "rpn.anchor_generator.")
    of_network = {
        name: tensor.clone()
        for name, tensor in published.items()
        if not name.startswith((*left_out, "attribute.predictor."))
    }
    for name, tensor in of_network.items():
        if name.endswith(".running_var"):
            of_network[name] = tensor - FROZEN_EPS
        elif name.startswith(("rpn.head.cls_logits.", "rpn.head.bbox_pred.")):
            of_network[name] = _transposed(tensor, _num_anchors(of_network), num_ratios, back=True)
        elif name.startswith("roi_heads.box.predictor.cls_score."):
            of_network[name] = tensor.roll(-1, dims=0)
        elif name.startswith("roi_heads.box.predictor.bbox_pred."):
            of_network[name] = tensor[4:].clone()
    renamed = {_detectron2_name(name): tensor for name, tensor in of_network.items()}
    return renamed | attributes_to_detectron2(published)


def _from_caffe2(name: str) -> str:
    """The name of detectron2 for one of Caffe2."""
    renamed = name.replace("_", ".")
    for pattern, replacement in _CAFFE2:
        renamed = re.sub(pattern, replacement, renamed)
    return renamed


def _refuse_other_networks(names: Iterable[str]) -> None:
    for name in names:
        for pattern, reason in REFUSED.items():
            if re.match(pattern, name):
                raise CheckpointError(f"detectron2 weights: tensor {name!r} is of {reason}")


def _published_name(name: str) -> str:
    for foreign, published in _PLACES:
        if name.startswith(foreign):
            renamed = published + name.removeprefix(foreign)
            for pattern, replacement in _LAYERS:
                renamed = re.sub(pattern, replacement, renamed)
            return renamed
    raise CheckpointError(f"detectron2 weights: unknown tensor {name!r}; is it another network?")


def _detectron2_name(name: str) -> str:
    for foreign, published in _PLACES:
        if name.startswith(published):
            renamed = foreign + name.removeprefix(published)
            for pattern, replacement in _LAYERS_BACK:
                renamed = re.sub(pattern, replacement, renamed)
            return renamed
    raise CheckpointError(f"tensor {name!r} has no name in detectron2")


def _whole_statistics(renamed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Variance as it counts here; where only factor and summand are stored, 0 and 1."""
    whole = {}
    for name, tensor in renamed.items():
        if re.search(r"\.(bn[123]|downsample\.1)\.weight$", name):
            layer = name.removesuffix("weight")
            whole[layer + "running_mean"] = renamed.get(
                layer + "running_mean", torch.zeros_like(tensor)
            )
            variance = renamed.get(layer + "running_var")
            whole[layer + "running_var"] = (
                torch.ones_like(tensor) if variance is None else variance + FROZEN_EPS
            )
    return whole


def _needed(renamed: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in renamed:
        raise CheckpointError(
            f"detectron2 weights: no tensor for {name!r}; is it a backbone without a detector?"
        )
    return renamed[name]


def _num_anchors(renamed: Mapping[str, Tensor]) -> int:
    """Anchors per cell; one logit and four deltas each."""
    hidden = _needed(renamed, "rpn.head.conv.weight")
    if hidden.ndim != 4:
        raise _misshapen("rpn.head.conv.weight", hidden)
    if hidden.shape[0] != hidden.shape[1]:
        raise CheckpointError(
            f"detectron2 weights: the proposal head turns {hidden.shape[1]} channels into "
            f"{hidden.shape[0]} (as Caffe's bottom-up attention does); here their number stays"
        )
    num = len(_needed(renamed, "rpn.head.cls_logits.weight"))
    num_deltas = len(_needed(renamed, "rpn.head.bbox_pred.weight"))
    if num_deltas != 4 * num:
        raise CheckpointError(
            f"detectron2 weights: {num} logits and {num_deltas} deltas per cell; with two logits "
            "an anchor it is Caffe's bottom-up attention, which is another graph"
        )
    return num


def _is_background_first(renamed: Mapping[str, Tensor]) -> bool:
    """Caffe's order of classes: there the background has a box of its own.

    Its class-agnostic heads have eight deltas, as many as two classes have in detectron2.
    """
    num_classes = len(_needed(renamed, "roi_heads.box.predictor.cls_score.weight"))
    num_rows = len(_needed(renamed, "roi_heads.box.predictor.bbox_pred.weight"))
    return num_rows == 4 * num_classes or (num_rows == 8 and num_classes != 3)


def _change_anchors(renamed: dict[str, Tensor], *, caffe2: bool, num_ratios: int) -> None:
    """Rows of anchors in our order, in place."""
    num_anchors = _num_anchors(renamed)
    if not num_ratios or num_anchors % num_ratios:
        raise CheckpointError(
            f"detectron2 weights: {num_anchors} anchors per cell cannot have {num_ratios} aspect "
            "ratios each; name them in a settings file beside it"
        )
    if caffe2:
        return
    for name, tensor in renamed.items():
        if name.startswith(("rpn.head.cls_logits.", "rpn.head.bbox_pred.")):
            if len(tensor) not in (num_anchors, 4 * num_anchors):
                raise _misshapen(name, tensor)
            renamed[name] = _transposed(tensor, num_anchors, num_ratios)


def _misshapen(name: str, tensor: Tensor) -> CheckpointError:
    return CheckpointError(
        f"detectron2 weights: tensor {_detectron2_name(name)!r} has shape {tuple(tensor.shape)}, "
        "which fits no such network; choose another checkpoint"
    )


def _put_background_first(renamed: dict[str, Tensor]) -> None:
    """Rows of classes and boxes in our order, in place."""
    for name, tensor in renamed.items():
        if name.startswith("roi_heads.box.predictor.cls_score."):
            renamed[name] = tensor.roll(1, dims=0)
        elif name.startswith("roi_heads.box.predictor.bbox_pred."):
            renamed[name] = torch.cat((torch.zeros_like(tensor[:4]), tensor))


def _transposed(tensor: Tensor, num_anchors: int, num_ratios: int, *, back: bool = False) -> Tensor:
    """Rows size by size, or `back` from them, to rows ratio by ratio."""
    num_sizes = num_anchors // num_ratios
    outer, inner = (num_ratios, num_sizes) if back else (num_sizes, num_ratios)
    rows = tensor.reshape(outer, inner, -1, *tensor.shape[1:])
    return rows.transpose(0, 1).reshape(tensor.shape).contiguous()
