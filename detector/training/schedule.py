"""Learning rates and the optimiser."""

import math

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from detector.training.config import DetectorTraining

_TRUNK = ("trunk.", "res5.")


def detection_rate(training: DetectorTraining, step: int) -> float:
    """Learning rate of a detection step (0-based).

    Linear from `warmup_factor` of the rate, then steps down or half a cosine.
    Source: maskrcnn-benchmark `solver/lr_scheduler.py:WarmupMultiStepLR`.
    """
    rate = training.learning_rate
    if training.schedule == "steps":
        rate *= training.decay_factor ** sum(step >= at for at in training.decay_steps)
    else:
        rate *= half_cosine(step / training.num_steps)
    if step < training.warmup_steps:
        done = step / training.warmup_steps
        rate *= training.warmup_factor * (1 - done) + done
    return rate


def crop_rate(rate: float, step: int, num_steps: int) -> float:
    """Learning rate of a crop step (0-based): a tenth of linear warm-up, then half a cosine."""
    return rate * min((step + 1) / (0.1 * num_steps), half_cosine(step / num_steps), 1.0)


def half_cosine(done: float) -> float:
    """From 1 at 0 to 0 at 1."""
    return 0.5 * (1.0 + math.cos(math.pi * done))


def build_optimiser(training: DetectorTraining, model: nn.Module) -> Optimizer:
    """The configured optimiser over all parameters that have a gradient.

    SGD: parameters with "bias" in their name have no weight decay and `bias_rate_factor` times the
    rate. AdamW: vectors (biases, normalisation) have no weight decay. With both, trunk and res5
    take `trunk_rate_factor` of the rate.
    """
    groups = []
    for is_trunk, trunk_factor in ((False, 1.0), (True, training.trunk_rate_factor)):
        part = {
            name: weight
            for name, weight in model.named_parameters()
            if weight.requires_grad and name.startswith(_TRUNK) == is_trunk
        }
        is_light = {
            name: weight.ndim <= 1 if training.optimiser == "adamw" else "bias" in name
            for name, weight in part.items()
        }
        light_factor = 1.0 if training.optimiser == "adamw" else training.bias_rate_factor
        for light, decay, factor in (
            (False, training.weight_decay, 1.0),
            (True, 0.0, light_factor),
        ):
            members = [weight for name, weight in part.items() if is_light[name] == light]
            if members:
                rate_factor = factor * trunk_factor
                groups.append(
                    {"params": members, "weight_decay": decay, "rate_factor": rate_factor}
                )
    if training.optimiser == "adamw":
        return AdamW(groups, lr=training.learning_rate, fused=True)
    return SGD(groups, lr=training.learning_rate, momentum=training.momentum)


def set_rate(optimiser: Optimizer, rate: float) -> None:
    """Give every group its rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["rate_factor"]
