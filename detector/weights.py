"""Weights into a model, strictly: every tensor has a place and the right shape."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from detector.config import DetectorConfig
from detector.errors import CheckpointError
from detector.model import AttributeRCNN

_COUNTER = "num_batches_tracked"  # of live normalisation; absent where it was frozen


def model_of(
    config: DetectorConfig,
    weights: dict[str, Tensor],
    source: str,
    *,
    called: Callable[[str], str] = str,
) -> AttributeRCNN:
    """A model that owns float32 copies of the weights, in evaluation mode.

    Nothing is drawn or reserved before names and shapes are known to fit, and weights that nobody
    else holds are never twice in memory.

    Args:
        config: Of the network.
        weights: Complete, with our names; empty afterwards.
        source: What to call the file in an error.
        called: What that file calls the tensor of one of our names.

    Raises:
        CheckpointError: A tensor is missing, has no place, or has another shape, or holds numbers
            that nothing can be computed with.
    """
    with torch.device("meta"):
        model = AttributeRCNN(config)
    check_weights(model, weights, source, called=called)
    counters = {
        name: torch.zeros_like(tensor, device="cpu")
        for name, tensor in model.state_dict().items()
        if name.endswith(_COUNTER)
    }
    own = {}
    for name in list(needed_weights(weights)):
        own[name] = weights.pop(name).to(torch.float32, copy=True).contiguous()
        _check_numbers(own[name], name, config, f"{source}: tensor {called(name)!r}")
    weights.clear()
    model.load_state_dict(own | counters, assign=True)
    return model.eval()


def _check_numbers(tensor: Tensor, name: str, config: DetectorConfig, told: str) -> None:
    """Refuse numbers from which a network would compute none."""
    if not bool(tensor.isfinite().all()):
        raise CheckpointError(
            f"{told} holds numbers that are not finite; the file is damaged, or its training broke"
        )
    if name.endswith("running_var"):
        least = float(tensor.min())
        adds_nothing = config.norm == "frozen" and config.trunk == "resnet_c4"  # to a variance
        if least < 0 or (least == 0 and adds_nothing):
            raise CheckpointError(f"{told} holds a variance of {least:g}; the file is damaged")


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Copy weights into a model.

    Args:
        model: With our names.
        weights: Complete, with our names.
        source: What to call the file in an error.

    Raises:
        CheckpointError: A tensor is missing, has no place, or has another shape.
    """
    check_weights(model, weights, source)
    model.load_state_dict(needed_weights(weights), strict=False)


def check_weights(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    source: str,
    *,
    called: Callable[[str], str] = str,
) -> None:
    """Compare names and shapes; arguments and errors are those of `model_of`."""
    own, weights = needed_weights(model.state_dict()), needed_weights(weights)
    for name, tensor in own.items():
        if name not in weights:
            raise CheckpointError(
                f"{source}: tensor {called(name)!r} is missing; check `trunk` and `blocks` or "
                "choose another checkpoint"
            )
        if weights[name].shape != tensor.shape:
            raise CheckpointError(
                f"{source}: tensor {called(name)!r} has shape {tuple(weights[name].shape)}, the "
                f"configured model needs {tuple(tensor.shape)}; check `num_classes` and the "
                "widths, or choose another checkpoint"
            )
    surplus = sorted(map(called, weights.keys() - own.keys()))
    if surplus:
        raise CheckpointError(
            f"{source}: {len(surplus)} tensors have no place in the configured model, first "
            f"{surplus[0]!r}; check `blocks` and `trunk`"
        )


def needed_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those that say something about what a model computes; counters of training do not."""
    return {name: tensor for name, tensor in weights.items() if not name.endswith(_COUNTER)}
