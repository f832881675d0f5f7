"""Orders of anchors, classes and boxes that detectron2 has otherwise; see `detectron2_names`.

Letters: A anchors per cell.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from detector.errors import CheckpointError

_HIDDEN = "rpn.head.conv.weight"
_LOGITS = "rpn.head.cls_logits."
_DELTAS = "rpn.head.bbox_pred."
_CLASSES = "roi_heads.box.predictor.cls_score."
_BOXES = "roi_heads.box.predictor.bbox_pred."


@dataclass(frozen=True, slots=True, kw_only=True)
class Renamed:
    """Tensors of detectron2 under published names.

    called: what their file calls the tensor of a published name, for errors
    """

    tensors: dict[str, Tensor]
    called: Callable[[str], str]

    def needed(self, name: str) -> Tensor:
        """A tensor of that name.

        Raises:
            CheckpointError: There is none.
        """
        if name not in self.tensors:
            raise CheckpointError(
                f"detectron2 weights: tensor {self.called(name)!r} is missing; is it a backbone "
                "without a detector?"
            )
        return self.tensors[name]

    def misshapen(self, name: str) -> CheckpointError:
        """The error about a tensor whose shape no such network has."""
        return CheckpointError(
            f"detectron2 weights: tensor {self.called(name)!r} has shape "
            f"{tuple(self.tensors[name].shape)}, which fits no such network; choose another "
            "checkpoint"
        )


def is_background_first(found: Renamed) -> bool:
    """Caffe's order of classes: there the background has a box of its own.

    Its class-agnostic heads have eight deltas, as many as two classes have in detectron2.
    """
    num_classes = len(found.needed(_CLASSES + "weight"))
    num_rows = len(found.needed(_BOXES + "weight"))
    return num_rows == 4 * num_classes or (num_rows == 8 and num_classes != 3)


def check_anchors(found: Renamed, num_ratios: int) -> None:
    """The proposal head must be one of ours, its anchors of so many aspect ratios.

    Raises:
        CheckpointError: They are not.
    """
    num_anchors = _num_anchors(found)
    if not num_ratios or num_anchors % num_ratios:
        raise CheckpointError(
            f"detectron2 weights: {num_anchors} anchors per cell cannot have {num_ratios} aspect "
            "ratios each; name them in a settings file beside it"
        )


def put_ratios_first(found: Renamed, num_ratios: int) -> None:
    """Rows of anchors size by size to those ratio by ratio, in place.

    Raises:
        CheckpointError: A tensor of the proposal head has not so many rows.
    """
    num_anchors = _num_anchors(found)
    for name, tensor in found.tensors.items():
        if name.startswith((_LOGITS, _DELTAS)):
            if len(tensor) not in (num_anchors, 4 * num_anchors):
                raise found.misshapen(name)
            found.tensors[name] = _transposed(tensor, num_anchors // num_ratios, num_ratios)


def put_background_first(found: Renamed) -> None:
    """Rows of classes and boxes in our order, in place."""
    for name, tensor in found.tensors.items():
        if name.startswith(_CLASSES):
            found.tensors[name] = tensor.roll(1, dims=0)
        elif name.startswith(_BOXES):
            found.tensors[name] = torch.cat((torch.zeros_like(tensor[:4]), tensor))


def in_detectron2s_order(name: str, tensor: Tensor, *, num_anchors: int, num_ratios: int) -> Tensor:
    """The way back, for one tensor by its published name."""
    if name.startswith((_LOGITS, _DELTAS)):
        return _transposed(tensor, num_ratios, num_anchors // num_ratios)
    if name.startswith(_CLASSES):
        return tensor.roll(-1, dims=0)
    if name.startswith(_BOXES):
        return tensor[4:].clone()
    return tensor.clone()


def _num_anchors(found: Renamed) -> int:
    """A; one logit and four deltas each."""
    hidden = found.needed(_HIDDEN)
    if hidden.ndim != 4:
        raise found.misshapen(_HIDDEN)
    if hidden.shape[0] != hidden.shape[1]:
        raise CheckpointError(
            f"detectron2 weights: tensor {found.called(_HIDDEN)!r} turns {hidden.shape[1]} "
            f"channels into {hidden.shape[0]} (as Caffe's bottom-up attention does); here their "
            "number stays"
        )
    num = len(found.needed(_LOGITS + "weight"))
    num_deltas = len(found.needed(_DELTAS + "weight"))
    if num_deltas != 4 * num:
        raise CheckpointError(
            f"detectron2 weights: tensor {found.called(_LOGITS + 'weight')!r} has {num} rows, "
            f"{found.called(_DELTAS + 'weight')!r} has {num_deltas}, which should be four times as "
            "many; with two logits an anchor it is Caffe's bottom-up attention, another graph"
        )
    return num


def _transposed(tensor: Tensor, num_outer: int, num_inner: int) -> Tensor:
    """Rows of anchors with outer and inner order exchanged."""
    rows = tensor.reshape(num_outer, num_inner, -1, *tensor.shape[1:])
    return rows.transpose(0, 1).reshape(tensor.shape).contiguous()
