"""Attribute heads of programs around detectron2, to and from the layout of `checkpoint_names`.

detectron2 itself names no attributes; three kinds of heads were added to it, all of the same
graph (class embedding beside the region feature, a hidden layer, logits):

- ours, `roi_heads.attribute_head.*`: "no attribute" is row 0;
- facebookresearch/grid-feats-vqa and MILVLG/bottom-up-attention.pytorch (detectron2 mode),
  `roi_heads.attribute_predictor.*`: no row for "no attribute";
- airsplay/py-bottom-up-attention, and Caffe2 names, `roi_heads.box_predictor.*`: "no attribute" is
  the last row, in Caffe2 row 0.

The embedding is ordered as the classes are.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from detector.errors import CheckpointError

_NEVER = -1e4  # a logit whose probability is 0 in float32 beside any that a network gives
_OURS = "roi_heads.attribute_head."
_GRID = "roi_heads.attribute_predictor."
_BOTTOM_UP = "roi_heads.box_predictor."
_LAYERS = {
    _OURS: ("class_embedding", "hidden", "logits"),
    _GRID: ("obj_embed", "fc.0", "attr_score"),
    _BOTTOM_UP: ("cls_embedding", "fc_attr", "attr_score"),
}
_PUBLISHED = ("cls_embedding", "fc_attr", "attr_score")
_TENSORS = ("0.weight", "1.weight", "1.bias", "2.weight", "2.bias")  # layer, kind


def is_of_attributes(name: str) -> bool:
    """Whether the tensor of that name in detectron2 belongs to an attribute head."""
    return any(
        name.startswith(f"{head}{layer}.") for head, layers in _LAYERS.items() for layer in layers
    )


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
    head = next(head for head in _LAYERS if next(iter(weights)).startswith(head))
    found = {}
    for key in _TENSORS:
        number, kind = key.split(".")
        name = f"{head}{_LAYERS[head][int(number)]}.{kind}"
        if name not in weights:
            raise CheckpointError(f"detectron2 weights: tensor {name!r} is missing")
        found[f"attribute.predictor.{_PUBLISHED[int(number)]}.{kind}"] = weights[name]
    if len(weights) != len(found):
        raise CheckpointError("detectron2 weights: more than one attribute head")
    if not background_first:
        embedding = found["attribute.predictor.cls_embedding.weight"]
        found["attribute.predictor.cls_embedding.weight"] = embedding.roll(1, dims=0)
    for kind in ("weight", "bias"):
        name = f"attribute.predictor.attr_score.{kind}"
        if head == _GRID:
            nothing = torch.full_like(found[name][:1], 0.0 if kind == "weight" else _NEVER)
            found[name] = torch.cat((nothing, found[name]))
        elif head == _BOTTOM_UP and not background_first:
            found[name] = found[name].roll(1, dims=0)
    return found


def attributes_to_detectron2(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The head of published weights under our names in detectron2, background class last."""
    found = {}
    for key in _TENSORS:
        number, kind = key.split(".")
        tensor = published[f"attribute.predictor.{_PUBLISHED[int(number)]}.{kind}"]
        found[f"{_OURS}{_LAYERS[_OURS][int(number)]}.{kind}"] = (
            tensor.roll(-1, dims=0) if number == "0" else tensor.clone()
        )
    return found


def _silent_head(num_classes: int, feature_width: int) -> dict[str, Tensor]:
    """A head with one attribute beside "no attribute", which it never names."""
    return {
        "attribute.predictor.cls_embedding.weight": torch.zeros(num_classes, 1),
        "attribute.predictor.fc_attr.weight": torch.zeros(1, feature_width + 1),
        "attribute.predictor.fc_attr.bias": torch.zeros(1),
        "attribute.predictor.attr_score.weight": torch.zeros(2, 1),
        "attribute.predictor.attr_score.bias": torch.tensor([0.0, _NEVER]),
    }
