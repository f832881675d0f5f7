"""Weights in the layout of microsoft/scene_graph_benchmark, to and from ours.

Every foreign name is used, checked, or ignored for a stated reason; nothing is matched by chance.
Source: `specs/detector.md` 9.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from detector.errors import CheckpointError
from detector.published.renaming import Renaming
from detector.published.weights_file import without_wrapping

_NAMES = Renaming(
    heads=(
        ("backbone.body.stem.conv1.", "trunk.stem.conv1."),
        ("backbone.body.stem.bn1.", "trunk.stem.norm1."),
        *((f"backbone.body.layer{n + 1}.", f"trunk.stages.{n}.") for n in range(3)),
        ("roi_heads.box.feature_extractor.head.layer4.", "res5.blocks."),
        ("rpn.head.conv.", "rpn_head.conv."),
        ("rpn.head.cls_logits.", "rpn_head.logits."),
        ("rpn.head.bbox_pred.", "rpn_head.deltas."),
        ("roi_heads.box.predictor.cls_score.", "box_head.class_logits."),
        ("roi_heads.box.predictor.bbox_pred.", "box_head.box_deltas."),
        ("attribute.predictor.cls_embedding.", "attribute_head.class_embedding."),
        ("attribute.predictor.fc_attr.", "attribute_head.hidden."),
        ("attribute.predictor.attr_score.", "attribute_head.logits."),
    ),
    pieces=((".bn", ".norm"), (".downsample.", ".shortcut.")),
)
CELL_ANCHORS = "rpn.anchor_generator.cell_anchors.0"
_EXTRACTOR = "roi_heads.box.feature_extractor."
_ALIAS = "attribute.feature_extractor."  # the same module under a second name
_COUNTER = "num_batches_tracked"  # live normalisation counts batches; nothing reads it


def from_published(weights: Mapping[str, Tensor], cell_anchors: Tensor) -> dict[str, Tensor]:
    """Published names to ours.

    Args:
        weights: As in the file, with or without the alias names and the `module.` prefix.
        cell_anchors: (A, 4) of the configured model; a file with other anchors is refused.

    Raises:
        CheckpointError: An unknown name, an alias that differs, other anchors.
    """
    weights = without_wrapping(weights)
    renamed = {}
    for name, tensor in weights.items():
        if name == CELL_ANCHORS:
            _check_anchors(tensor, cell_anchors)
        elif name.startswith(_ALIAS):
            _check_alias(name, tensor, weights)
        else:
            renamed[_our_name(name)] = tensor
    return renamed


def to_published(
    weights: Mapping[str, Tensor], cell_anchors: Tensor, *, with_aliases: bool = True
) -> dict[str, Tensor]:
    """Our names to the published ones; with the names the original keeps twice, if asked."""
    renamed = {
        published_name(name): tensor
        for name, tensor in weights.items()
        if not name.endswith(_COUNTER)
    }
    if with_aliases:
        renamed |= {
            _ALIAS + name.removeprefix(_EXTRACTOR): tensor
            for name, tensor in renamed.items()
            if name.startswith(_EXTRACTOR)
        }
    return renamed | {CELL_ANCHORS: cell_anchors}


def published_name(name: str) -> str:
    """The published name for ours.

    Raises:
        CheckpointError: It has none.
    """
    published = _NAMES.written(name)
    if published is None:
        raise CheckpointError(f"tensor {name!r} has no published name; only ResNet trunks have")
    return published


def _our_name(name: str) -> str:
    """Ours for a published name."""
    ours = _NAMES.read(name)
    if ours is None:
        raise CheckpointError(f"published weights: unknown tensor {name!r}; is it another network?")
    return ours


def _check_anchors(found: Tensor, expected: Tensor) -> None:
    """The file's anchors must be those of the configuration."""
    if found.shape != expected.shape or not torch.allclose(found, expected.cpu(), atol=1e-3):
        raise CheckpointError(
            f"tensor {CELL_ANCHORS!r} does not hold the configured anchors; check "
            "`anchor_sizes` and `aspect_ratios`"
        )


def _check_alias(name: str, tensor: Tensor, weights: Mapping[str, Tensor]) -> None:
    """Both names of the shared module must hold the same numbers."""
    twin = weights.get(_EXTRACTOR + name.removeprefix(_ALIAS))
    if twin is None or not torch.equal(twin, tensor):
        raise CheckpointError(
            f"tensor {name!r} differs from its twin below {_EXTRACTOR!r}; the original shares "
            "one module between them, so this file was changed by hand"
        )
