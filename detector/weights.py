"""Weights into a model, strictly: every tensor has a place and the right shape."""

from collections.abc import Mapping

from torch import Tensor, nn

from detector.errors import CheckpointError

_COUNTER = "num_batches_tracked"  # of live normalisation; absent where it was frozen


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Copy weights into a model.

    Args:
        model: With our names.
        weights: Complete, with our names.
        source: What to call the file in an error.

    Raises:
        CheckpointError: A tensor is missing, has no place, or has another shape.
    """
    own = {name: tensor for name, tensor in model.state_dict().items() if _is_needed(name)}
    weights = {name: tensor for name, tensor in weights.items() if _is_needed(name)}
    for name, tensor in own.items():
        if name not in weights:
            raise CheckpointError(
                f"{source}: tensor {name!r} is missing; check `trunk` and `blocks` or choose "
                "another checkpoint"
            )
        if weights[name].shape != tensor.shape:
            raise CheckpointError(
                f"{source}: tensor {name!r} has shape {tuple(weights[name].shape)}, the "
                f"configured model needs {tuple(tensor.shape)}; check `num_classes` and the "
                "widths, or choose another checkpoint"
            )
    surplus = sorted(weights.keys() - own.keys())
    if surplus:
        raise CheckpointError(
            f"{source}: {len(surplus)} tensors have no place in the configured model, first "
            f"{surplus[0]!r}; check `blocks` and `trunk`"
        )
    model.load_state_dict(dict(weights), strict=False)


def _is_needed(name: str) -> bool:
    """Whether a tensor says something about what the model computes."""
    return not name.endswith(_COUNTER)
