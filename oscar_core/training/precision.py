"""Matrix products in fewer bits; weights, moments and gradients stay in fp32."""

from contextlib import AbstractContextManager, nullcontext

import torch

from oscar_core.training.config import PrecisionName

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: PrecisionName, device: torch.device) -> AbstractContextManager[object]:
    """Where losses are computed; gradients take the types from the forward pass."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=_DTYPES[precision])


class LossScale:
    """What the loss is multiplied by so that fp16 gradients do not vanish; a power of 2.

    Doubled after `GROWTH_STEPS` updates without overflow, halved by one with it. Kept by value and
    not by `torch.amp.GradScaler`, so that it is stored in checkpoints and is the same in every
    process, sharded gradients included. Other precisions need none: it stays 1.

    Source: the rule and constants are those of `torch.amp.GradScaler`.
    """

    FIRST = 65536.0
    GROWTH_STEPS = 2000

    def __init__(self, precision: PrecisionName) -> None:
        self.is_used = precision == "fp16"
        self.value = self.FIRST if self.is_used else 1.0
        self.num_good = 0

    @property
    def may_fall(self) -> bool:
        """Whether an overflow may be the scale's fault; below 1 it lies in the gradients."""
        return self.is_used and self.value >= 1.0

    def learn(self, *, is_finite: bool) -> None:
        """Take note of how an update went."""
        if not self.is_used:
            return
        if not is_finite:
            self.value, self.num_good = self.value / 2, 0
            return
        self.num_good += 1
        if self.num_good == self.GROWTH_STEPS:
            self.value, self.num_good = self.value * 2, 0

    def state(self) -> dict[str, float]:
        """For a checkpoint."""
        return {"value": self.value, "num_good": self.num_good}

    def restore(self, state: dict[str, float]) -> None:
        """From a checkpoint."""
        self.value, self.num_good = float(state["value"]), int(state["num_good"])
