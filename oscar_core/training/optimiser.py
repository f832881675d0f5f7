"""AdamW as the old BERT library wrote it, which belongs to the published recipes."""

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from oscar_core.training.config import TrainingConfig


class PublishedAdamW(torch.optim.Optimizer):
    """AdamW with epsilon inside the correction and the decay after the step.

    For update t: m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
    p -= lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps); then p -= lr * decay * p.
    `torch.optim.AdamW` adds eps to the corrected sqrt(v) and decays before the step. A parameter
    without gradient is left alone, its decay included.

    Source: `pt/optimization.py:AdamW`; specs/oscar.md 8.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        corrects_bias: bool = True,
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})
        self.corrects_bias = corrects_bias

    @torch.no_grad()
    # torch's returns the closure's loss, which nobody here asks for
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient; `closure` is not used."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._update(parameters, group)

    def _update(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        """Update parameters of one age and one decay."""
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": 0,
                    "mean": torch.zeros_like(parameter),
                    "square": torch.zeros_like(parameter),
                }
            self.state[parameter]["step"] += 1
        beta1, beta2 = group["betas"]
        gradients = [cast(Tensor, p.grad) for p in parameters]
        means = [self.state[p]["mean"] for p in parameters]
        squares = [self.state[p]["square"] for p in parameters]
        torch._foreach_mul_(means, beta1)
        torch._foreach_add_(means, gradients, alpha=1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)
        below = torch._foreach_sqrt(squares)
        torch._foreach_add_(below, group["eps"])
        rates = []
        for parameter in parameters:
            t = self.state[parameter]["step"]
            correction = math.sqrt(1 - beta2**t) / (1 - beta1**t) if self.corrects_bias else 1.0
            rates.append(-group["lr"] * correction)
        values = list[Tensor](parameters)
        torch._foreach_addcdiv_(values, means, below, rates)
        if group["weight_decay"] > 0:
            torch._foreach_mul_(values, 1 - group["lr"] * group["weight_decay"])


def build_optimiser(model: nn.Module, config: TrainingConfig) -> PublishedAdamW:
    """Decay matrices, not vectors: biases and every LayerNorm have one dimension.

    Source: specs/oscar.md 8 and 11 (Q16).
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    return PublishedAdamW(
        [
            {"params": [p for p in trained if p.dim() > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.adam_epsilon,
    )
