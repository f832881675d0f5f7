"""What the tensors of a published checkpoint tell of its network, and what they cannot tell.

Source: `specs/detector.md` 4 and 9.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from detector.config import DetectorConfig
from detector.errors import CheckpointError
from detector.published.cell_anchors import AnchorShapes, shapes_of_anchors
from detector.published.checkpoint_names import CELL_ANCHORS

_TRUNK = "backbone.body."
_RES5 = "roi_heads.box.feature_extractor.head.layer4."
_CLASSES = "roi_heads.box.predictor.cls_score.weight"
_DELTAS = "roi_heads.box.predictor.bbox_pred.weight"
_ATTRIBUTES = "attribute.predictor.attr_score.weight"
_EMBEDDING = "attribute.predictor.cls_embedding.weight"
_HIDDEN = "attribute.predictor.fc_attr.weight"
_AGNOSTIC_ROWS = 8
NOT_IN_TENSORS = {
    "stride_in_1x1": "which convolution of a stage's first block strides",
    "res5_dilation": "the dilation of res5",
    "res5_stride": "the stride of res5",
    "pooled_size": "bins per side of a pooled region",
    "sampling_ratio": "sample points per bin",
    "pre_nms_top_n": "proposals before suppression",
    "post_nms_top_n": "proposals after it",
    "proposal_nms_overlap": "the overlap that suppresses proposals",
    "proposal_min_size": "the smallest proposal",
    "box_weights": "divisors of the box deltas",
    "min_size": "the short side photos are resized to",
    "max_size": "the longest side",
    "channel_order": "order of the colours",
    "pixel_mean": "what is subtracted from pixels",
    "pixel_std": "what they are divided by",
}
"""Settings that leave no trace in any tensor; the published value is assumed unless said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """A network as far as its tensors tell.

    config:  complete; what they do not tell has its published value
    assumed: what was taken on trust, a line each
    """

    config: DetectorConfig
    assumed: tuple[str, ...]


def sizes_of(
    tensors: Mapping[str, Tensor],
    stated: Mapping[str, Any],
    source: str,
    *,
    called: Callable[[str], str] = str,
) -> Sizes:
    """Infer the network from the shapes (and the anchors) of its published tensors.

    Args:
        tensors: Published names, without `module.`.
        stated: Settings of `DetectorConfig` that somebody wrote down; those that the tensors tell
            must agree with them.
        source: What to call the file in an error.
        called: What that file calls the tensor of a published name.

    Raises:
        CheckpointError: A tensor that is needed is missing or has no shape of such a network, or
            the tensors contradict what was stated.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    found = _Shapes(shapes, source, called)
    told: dict[str, Any] = {
        **_trunk(found),
        **_res5(found),
        **_heads(found),
    }
    num_anchors = found.of("rpn.head.cls_logits.weight", 4)[0]
    anchors = _anchors(tensors.get(CELL_ANCHORS), num_anchors, stated, source)
    told |= {"anchor_sizes": anchors.sizes, "aspect_ratios": anchors.ratios}
    _compare(told, stated, source)
    config = replace(DetectorConfig(), **{**told, **stated})
    silent = {name: why for name, why in NOT_IN_TENSORS.items() if name not in stated}
    if CELL_ANCHORS not in tensors and "anchor_sizes" not in stated:
        silent["anchor_sizes"] = "sides of the anchors"
    assumed = (f"{name} = {getattr(config, name)} ({why})" for name, why in silent.items())
    return Sizes(config=config, assumed=tuple(assumed))


class _Shapes:
    """Shapes by name, with errors that say which tensor is at fault."""

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], source: str, called: Callable[[str], str]
    ) -> None:
        self.by_name = shapes
        self.source = source
        self.called = called

    def of(self, name: str, num_axes: int) -> tuple[int, ...]:
        shape = self.by_name.get(name)
        if shape is None:
            raise CheckpointError(
                f"{self.source}: tensor {self.called(name)!r} is missing; is it the checkpoint of "
                "another network?"
            )
        if len(shape) != num_axes or 0 in shape:
            raise self.odd(name, f"{num_axes} axes")
        return shape

    def odd(self, name: str, wanted: str) -> CheckpointError:
        return CheckpointError(
            f"{self.source}: tensor {self.called(name)!r} has shape {self.by_name[name]}, such a "
            f"network has {wanted} there; choose another checkpoint"
        )

    def num_blocks(self, stage: str) -> int:
        """Blocks below a name; a gap in their numbers shows later, as missing tensors."""
        pattern = re.compile(re.escape(stage) + r"(\d+)\.")
        return max(1, len({match[1] for match in map(pattern.match, self.by_name) if match}))


def _trunk(found: _Shapes) -> dict[str, Any]:
    """Stem and the stages at strides 4, 8, 16."""
    first = f"{_TRUNK}layer1.0."
    inner, per_group = found.of(first + "conv2.weight", 4)[:2]
    if inner % per_group:
        raise found.odd(first + "conv2.weight", "whole groups of channels")
    return {
        "blocks": tuple(found.num_blocks(f"{_TRUNK}layer{number}.") for number in (1, 2, 3)),
        "stem_width": found.of(f"{_TRUNK}stem.conv1.weight", 4)[0],
        "res2_width": found.of(first + "conv3.weight", 4)[0],
        "groups": inner // per_group,
        "width_per_group": per_group,
    }


def _res5(found: _Shapes) -> dict[str, Any]:
    """The stage applied to regions; 0 stands for the usual inner width."""
    inner = found.of(_RES5 + "0.conv2.weight", 4)[0]
    usual = 8 * found.of(f"{_TRUNK}layer1.0.conv2.weight", 4)[0]
    return {
        "res5_blocks": found.num_blocks(_RES5),
        "res5_inner_width": 0 if inner == usual else inner,
    }


def _heads(found: _Shapes) -> dict[str, Any]:
    """Classes, boxes, attributes."""
    num_classes = found.of(_CLASSES, 2)[0]
    num_rows = found.of(_DELTAS, 2)[0]
    if num_rows not in (_AGNOSTIC_ROWS, 4 * num_classes):
        raise found.odd(_DELTAS, f"{4 * num_classes} rows, or {_AGNOSTIC_ROWS}")
    is_told = num_rows != _AGNOSTIC_ROWS or 4 * num_classes != _AGNOSTIC_ROWS
    return {
        "num_classes": num_classes,
        **({"class_agnostic_boxes": num_rows != 4 * num_classes} if is_told else {}),
        "num_attributes": found.of(_ATTRIBUTES, 2)[0],
        "class_embedding_width": found.of(_EMBEDDING, 2)[1],
        "attribute_hidden_width": found.of(_HIDDEN, 2)[0],
    }


def _anchors(
    cells: Tensor | None, num_anchors: int, stated: Mapping[str, Any], source: str
) -> AnchorShapes:
    """Sizes and ratios, from the anchors in the file or from what is stated or usual."""
    if cells is not None:
        return shapes_of_anchors(cells, source)
    usual = DetectorConfig()
    shapes = AnchorShapes(
        sizes=tuple(stated.get("anchor_sizes", usual.anchor_sizes)),
        ratios=tuple(stated.get("aspect_ratios", usual.aspect_ratios)),
    )
    if len(shapes.sizes) * len(shapes.ratios) != num_anchors:
        raise CheckpointError(
            f"{source}: {num_anchors} anchors per cell and no tensor that tells their sizes; name "
            "MODEL.RPN.ANCHOR_SIZES (detectron2: MODEL.ANCHOR_GENERATOR.SIZES) in a settings file "
            "beside it"
        )
    return shapes


def _compare(told: Mapping[str, Any], stated: Mapping[str, Any], source: str) -> None:
    """What was stated must be what the tensors say."""
    for name, value in told.items():
        if name in stated and not _equal(stated[name], value):
            raise CheckpointError(
                f"{source}: its tensors say {name} = {value}, the settings say {stated[name]}; "
                "they do not belong together"
            )


def _equal(one: Any, other: Any) -> bool:
    """Equal, numbers in sequences up to rounding."""
    if isinstance(one, Sequence) and isinstance(other, Sequence):
        return len(one) == len(other) and all(
            abs(float(a) - float(b)) <= 1e-3 * abs(float(b))
            for a, b in zip(one, other, strict=True)
        )
    return bool(one == other)
