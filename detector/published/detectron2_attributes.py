"""Attribute heads of programs around detectron2, to and from the layout of `checkpoint_names`.

detectron2 itself names no attributes; heads were added to it by several programs, all of the same
graph (class embedding beside the region feature, a hidden layer, logits), under other names and
with "no attribute" in another row or in none: `_HEADS`. The embedding is ordered as the classes
are. Where the background is the first class (Caffe2, and Caffe's weights of bottom-up attention),
"no attribute" is the first row, too.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from detector.errors import CheckpointError

_NEVER = -1e4  # a logit whose probability is 0 in float32 beside any that a network gives


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """Names of a head in detectron2, and which row means "no attribute"."""

    prefix: str
    embedding: str
    hidden: str
    logits: str
    nothing: Literal["first", "last", "absent"]

    def names(self) -> dict[str, str]:
        """Its tensors by their published names."""
        of_layer = {"cls_embedding": self.embedding, "fc_attr": self.hidden}
        of_layer["attr_score"] = self.logits
        kinds = [(layer, "weight") for layer in of_layer]
        kinds += [("fc_attr", "bias"), ("attr_score", "bias")]
        return {
            f"attribute.predictor.{layer}.{kind}": f"{self.prefix}{of_layer[layer]}.{kind}"
            for layer, kind in kinds
        }


_OURS = _Head(
    prefix="roi_heads.attribute_head.",
    embedding="class_embedding",
    hidden="hidden",
    logits="logits",
    nothing="first",
)
_GRID_FEATURES = _Head(  # facebookresearch/grid-feats-vqa, MILVLG/bottom-up-attention.pytorch
    prefix="roi_heads.attribute_predictor.",
    embedding="obj_embed",
    hidden="fc.0",
    logits="attr_score",
    nothing="absent",
)
_BOTTOM_UP = _Head(  # airsplay/py-bottom-up-attention, and Caffe's own names
    prefix="roi_heads.box_predictor.",
    embedding="cls_embedding",
    hidden="fc_attr",
    logits="attr_score",
    nothing="last",
)
_BOTTOM_UP_OF_MILVLG = _Head(  # MILVLG/bottom-up-attention.pytorch, its older heads
    prefix="roi_heads.box_predictor.",
    embedding="cls_embed",
    hidden="attr_linear1",
    logits="attr_linear2",
    nothing="absent",
)
_HEADS = (_OURS, _GRID_FEATURES, _BOTTOM_UP, _BOTTOM_UP_OF_MILVLG)


def is_of_attributes(name: str) -> bool:
    """Whether the tensor of that name in detectron2 belongs to an attribute head."""
    return any(name in head.names().values() for head in _HEADS)


def attribute_name(published: str, names: Collection[str]) -> str | None:
    """The name of an attribute head's tensor, in the head whose names are among these."""
    used = (head.names() for head in _HEADS if set(head.names().values()) & set(names))
    return next(used, {}).get(published)


def attributes_from_detectron2(
    weights: Mapping[str, Tensor], *, background_first: bool, num_classes: int, feature_width: int
) -> dict[str, Tensor]:
    """The head under published names: background and "no attribute" in row 0.

    Args:
        weights: Those for which `is_of_attributes`; none: a head that never names an attribute.
        background_first: Classes and attributes are ordered so already (Caffe2).
        num_classes: With background.
        feature_width: D.

    Raises:
        CheckpointError: Parts of a head, or of two.
    """
    if not weights:
        return _silent_head(num_classes, feature_width)
    head = next(head for head in _HEADS if set(weights) & set(head.names().values()))
    missing = sorted(set(head.names().values()) - set(weights))
    if missing:
        raise CheckpointError(f"detectron2 weights: tensor {missing[0]!r} is missing")
    if len(weights) != len(head.names()):
        raise CheckpointError("detectron2 weights: more than one attribute head")
    found = {published: weights[name] for published, name in head.names().items()}
    if background_first:
        return found
    embedding = "attribute.predictor.cls_embedding.weight"
    found[embedding] = found[embedding].roll(1, dims=0)
    for kind in ("weight", "bias"):
        name = f"attribute.predictor.attr_score.{kind}"
        if head.nothing == "absent":
            nothing = torch.full_like(found[name][:1], 0.0 if kind == "weight" else _NEVER)
            found[name] = torch.cat((nothing, found[name]))
        elif head.nothing == "last":
            found[name] = found[name].roll(1, dims=0)
    return found


def attributes_to_detectron2(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The head of published weights under our names in detectron2, background class last."""
    return {
        name: published[ours].roll(-1, dims=0) if "embedding" in name else published[ours].clone()
        for ours, name in _OURS.names().items()
    }


def _silent_head(num_classes: int, feature_width: int) -> dict[str, Tensor]:
    """A head with one attribute beside "no attribute", which it never names."""
    return {
        "attribute.predictor.cls_embedding.weight": torch.zeros(num_classes, 1),
        "attribute.predictor.fc_attr.weight": torch.zeros(1, feature_width + 1),
        "attribute.predictor.fc_attr.bias": torch.zeros(1),
        "attribute.predictor.attr_score.weight": torch.zeros(2, 1),
        "attribute.predictor.attr_score.bias": torch.tensor([0.0, _NEVER]),
    }
