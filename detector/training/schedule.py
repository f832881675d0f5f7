"""Learning rates and the optimiser."""

import math
from collections.abc import Iterator

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from detector.training.config import DetectorTraining


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
    rate. AdamW: vectors (biases, normalisation) have no weight decay.
    """
    if training.optimiser == "adamw":
        return build_adamw(model, training.weight_decay)
    biases = [weight for name, weight in _trainable(model) if "bias" in name]
    others = [weight for name, weight in _trainable(model) if "bias" not in name]
    groups = [
        {"params": others, "weight_decay": training.weight_decay, "rate_factor": 1.0},
        {"params": biases, "weight_decay": 0.0, "rate_factor": training.bias_rate_factor},
    ]
    return SGD(groups, lr=training.learning_rate, momentum=training.momentum)


def build_adamw(model: nn.Module, weight_decay: float) -> Optimizer:
    """AdamW; weight decay on matrices and kernels only."""
    matrices = [weight for _, weight in _trainable(model) if weight.ndim > 1]
    vectors = [weight for _, weight in _trainable(model) if weight.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": weight_decay, "rate_factor": 1.0},
        {"params": vectors, "weight_decay": 0.0, "rate_factor": 1.0},
    ]
    return AdamW(groups, lr=1e-3, fused=True)


def set_rate(optimiser: Optimizer, rate: float) -> None:
    """Give every group its rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["rate_factor"]


def _trainable(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)
