"""`optimizer.pth` of published pretraining -> what our optimiser remembers.

The original's optimiser numbers parameters by their place: first all that are decayed, then all
that are not, each in the order of the model's parameters.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oscar_core.encoder import OscarPreTrained
from oscar_core.errors import WeightsError
from oscar_core.published.bert_names import in_published_order
from oscar_core.published.weights_file import load_plain

_NOT_DECAYED = ("bias", "LayerNorm.weight")
_MOMENTS = {"mean": "exp_avg", "square": "exp_avg_sq"}


def read_moments(path: Path, model: OscarPreTrained) -> dict[str, dict[str, Any]]:
    """What the optimiser of a published training knows of each parameter.

    Args:
        path: `optimizer.pth`.
        model: With the weights of the same checkpoint.

    Returns:
        Our parameter name -> "step" (updates done), "mean" and "square" (of the parameter's shape),
        as `oscar_core.training.optimiser.PublishedAdamW` keeps them.

    Raises:
        WeightsError: It cannot be read, or is of another model.

    Source: specs/oscar.md 3.2; `oscar/run_oscarplus_pretrain.py`, `pt/optimization.py:AdamW`.
    """
    content = load_plain(path)
    try:
        groups = content["optimizer"]["param_groups"]
        state = content["optimizer"]["state"]
        places = [place for group in groups for place in group["params"]]
        sizes = [len(group["params"]) for group in groups]
    except (KeyError, TypeError) as error:
        raise WeightsError(f"{path}: no optimiser of a published training ({error!r})") from error
    parameters = dict(model.named_parameters())
    named = in_published_order(parameters)
    decayed = [ours for ours, name in named if not any(word in name for word in _NOT_DECAYED)]
    others = [ours for ours, name in named if any(word in name for word in _NOT_DECAYED)]
    if sizes != [len(decayed), len(others)]:
        raise WeightsError(
            f"{path}: {sizes} parameters in its groups, the model has "
            f"{[len(decayed), len(others)]}; is it of another checkpoint?"
        )
    return {
        name: _moments(state[place], parameters[name], f"{path}: {name}")
        for name, place in zip([*decayed, *others], places, strict=True)
        if place in state
    }


def _moments(found: Mapping[str, Any], parameter: Tensor, where: str) -> dict[str, Any]:
    try:
        kept = {ours: found[theirs] for ours, theirs in _MOMENTS.items()}
        step = int(found["step"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{where}: no moments ({error!r})") from error
    for name, value in kept.items():
        if not isinstance(value, Tensor) or value.shape != parameter.shape:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise WeightsError(
                f"{where}: {name} is {shape}, the parameter {tuple(parameter.shape)}"
            )
    return {"step": step, **{name: value.to(torch.float32) for name, value in kept.items()}}
