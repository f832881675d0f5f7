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
    attribute_name,
    attributes_from_detectron2,
    attributes_to_detectron2,
    is_of_attributes,
)
from detector.published.detectron2_orders import (
    Renamed,
    check_anchors,
    in_detectron2s_order,
    is_background_first,
    put_background_first,
    put_ratios_first,
)
from detector.published.renaming import Renaming

FROZEN_EPS = 1e-5  # detectron2 layers/batch_norm.py:FrozenBatchNorm2d
_NAMES = Renaming(  # what they become: names of `checkpoint_names`
    heads=(
        ("backbone.stem.conv1.norm.", "backbone.body.stem.bn1."),
        ("backbone.stem.conv1.", "backbone.body.stem.conv1."),
        *((f"backbone.res{n + 1}.", f"backbone.body.layer{n}.") for n in (1, 2, 3)),
        ("roi_heads.res5.", "roi_heads.box.feature_extractor.head.layer4."),
        ("proposal_generator.rpn_head.conv.", "rpn.head.conv."),
        ("proposal_generator.rpn_head.objectness_logits.", "rpn.head.cls_logits."),
        ("proposal_generator.rpn_head.anchor_deltas.", "rpn.head.bbox_pred."),
        ("roi_heads.box_predictor.cls_score.", "roi_heads.box.predictor.cls_score."),
        ("roi_heads.box_predictor.bbox_pred.", "roi_heads.box.predictor.bbox_pred."),
    ),
    pieces=(
        *((f".conv{n}.norm.", f".bn{n}.") for n in (1, 2, 3)),
        (".shortcut.norm.", ".downsample.1."),
        (".shortcut.", ".downsample.0."),
    ),
)
_CAFFE2 = Renaming(  # what they become: names of detectron2
    heads=(
        ("conv1_w", "backbone.stem.conv1.weight"),
        ("res_conv1_bn_s", "backbone.stem.conv1.norm.weight"),
        ("res_conv1_bn_b", "backbone.stem.conv1.norm.bias"),
        *((f"res{n}_", f"backbone.res{n}.") for n in (2, 3, 4)),
        ("res5_", "roi_heads.res5."),
        ("conv_rpn", "proposal_generator.rpn_head.conv"),
        ("rpn_cls_logits", "proposal_generator.rpn_head.objectness_logits"),
        ("rpn_bbox_pred", "proposal_generator.rpn_head.anchor_deltas"),
        *((n, f"roi_heads.box_predictor.{n}") for n in ("cls_score", "bbox_pred")),
        *((n, f"roi_heads.box_predictor.{n}") for n in ("cls_embedding", "fc_attr", "attr_score")),
    ),
    pieces=(
        *(("_branch1", ".shortcut"), ("_branch2a", ".conv1")),
        *(("_branch2b", ".conv2"), ("_branch2c", ".conv3")),
        *(("_bn_s", ".norm.weight"), ("_bn_b", ".norm.bias"), ("_w", ".weight"), ("_b", ".bias")),
    ),
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


def name_in_detectron2(published: str, names: Collection[str]) -> str:
    """What a file with those names calls the tensor of a published name; itself if nothing."""
    caffe2 = is_caffe2(names)
    of_detectron2 = {_CAFFE2.read(name) or name for name in names} if caffe2 else names
    name = attribute_name(published, of_detectron2) or _NAMES.written(published) or published
    return (_CAFFE2.written(name) or name) if caffe2 else name


def from_detectron2(weights: Mapping[str, Tensor], *, num_ratios: int = 3) -> dict[str, Tensor]:
    """Weights under the names and in the orders of `checkpoint_names`, ready for its reader.

    A network without attributes gets a head that never names one.

    Args:
        weights: As in the file, `module.` taken off. Float16 becomes float32.
        num_ratios: Aspect ratios of the anchors; the tensors tell sizes times ratios only.

    Raises:
        CheckpointError: A name that is unknown, or of a network that cannot be built here.
    """
    names, caffe2 = list(weights), is_caffe2(weights)
    wanted = _wanted(_of_caffe2(weights) if caffe2 else weights, weights)
    renamed = {
        _published_name(name): tensor
        for name, tensor in wanted.items()
        if not is_of_attributes(name)
    }
    found = Renamed(
        tensors=_whole_statistics(renamed), called=lambda name: name_in_detectron2(name, names)
    )
    background_first = is_background_first(found)
    check_anchors(found, num_ratios)
    if not caffe2:
        put_ratios_first(found, num_ratios)
    if not background_first:
        put_background_first(found)
    classes = found.needed("roi_heads.box.predictor.cls_score.weight")
    return found.tensors | attributes_from_detectron2(
        {name: tensor for name, tensor in wanted.items() if is_of_attributes(name)},
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
    num_anchors = len(published["rpn.head.cls_logits.weight"])
    renamed = {}
    for name, tensor in published.items():
        if name.startswith(("attribute.", "rpn.anchor_generator.")):
            continue
        foreign = _NAMES.written(name)
        if foreign is None:
            raise CheckpointError(f"tensor {name!r} has no name in detectron2")
        renamed[foreign] = (
            tensor - FROZEN_EPS
            if name.endswith(".running_var")
            else in_detectron2s_order(name, tensor, num_anchors=num_anchors, num_ratios=num_ratios)
        )
    return renamed | attributes_to_detectron2(published)


def _of_caffe2(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of detectron2 for those of Caffe2."""
    renamed = {}
    for name, tensor in weights.items():
        new = _CAFFE2.read(name)
        if new is None:
            raise _unknown(name)
        renamed[new] = tensor
    return renamed


def _wanted(weights: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """What is not left out, in float32; `names` are those of the file, in the same order."""
    wanted = {}
    for (name, tensor), given in zip(weights.items(), names, strict=True):
        for pattern, reason in REFUSED.items():
            if re.match(pattern, name):
                raise CheckpointError(f"detectron2 weights: tensor {given!r} is of {reason}")
        if any(re.match(pattern, name) for pattern in LEFT_OUT):
            continue
        if not tensor.ndim:
            raise CheckpointError(f"detectron2 weights: tensor {given!r} is a single number")
        wanted[name] = tensor.detach().float()
    return wanted


def _published_name(name: str) -> str:
    published = _NAMES.read(name)
    if published is None:
        raise _unknown(name)
    return published


def _unknown(name: str) -> CheckpointError:
    return CheckpointError(f"detectron2 weights: unknown tensor {name!r}; is it another network?")


def _whole_statistics(renamed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Variance as it counts here; where a file has factors and summands only, 0 and 1."""
    if any(name.endswith((".running_mean", ".running_var")) for name in renamed):
        return {
            name: tensor + FROZEN_EPS if name.endswith(".running_var") else tensor
            for name, tensor in renamed.items()
        }
    whole = dict(renamed)
    for name, tensor in renamed.items():
        if re.search(r"\.(bn[123]|downsample\.1)\.weight$", name):
            layer = name.removesuffix("weight")
            whole[layer + "running_mean"] = torch.zeros_like(tensor)
            whole[layer + "running_var"] = torch.ones_like(tensor)
    return whole
