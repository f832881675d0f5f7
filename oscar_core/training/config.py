"""The settings of one training."""

from dataclasses import dataclass
from typing import Literal

from oscar_core.errors import ModelConfigError

Schedule = Literal["linear", "constant", "hold"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """How long, how fast, how often; the defaults are the published fine-tuning.

    Attributes:
        steps: Updates in all; None: `epochs` decides.
        epochs: Passes over the examples.
        batch_size: Examples an update, over all processes and accumulated parts.
        accumulation: Parts a batch is computed in.
        learning_rate: The highest one.
        schedule: "linear": warm-up, then down to 0. "constant": warm-up, then the full rate.
            "hold": warm-up, full rate for `hold` of all steps, then linearly to `floor`.
        warmup: Steps, or a share of all steps if below 1.
        hold: Share of the steps before the rate falls.
        floor: Share of the rate that is left at the end of "hold".
        betas: Of Adam.
        weight_decay: 0.01 in pretraining, 0.05 in fine-tuning. Not for biases and LayerNorm.
        max_gradient_norm: Gradients are cut to this L2 norm; 0 leaves them.
        seed: Of weights, order and dice.
        standardise_regions: Learn on region inputs with mean 0 and deviation 1 in every
            dimension; folded into the weights afterwards, so the stored model reads plain inputs.
        checkpoint_every: Steps between two checkpoints; 0: none.

    Source: `oscar/run_captioning.py`, `oscar/run_oscarplus_pretrain.py`; specs/oscar.md 8, 9.2.
    """

    steps: int | None = None
    epochs: float = 1.0
    batch_size: int = 64
    accumulation: int = 1
    learning_rate: float = 5e-5
    schedule: Schedule = "linear"
    warmup: float = 0.0
    hold: float = 0.7
    floor: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    adam_epsilon: float = 1e-8
    weight_decay: float = 0.05
    max_gradient_norm: float = 1.0
    seed: int = 88
    standardise_regions: bool = False
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        for name in ("batch_size", "accumulation"):
            if getattr(self, name) < 1:
                raise ModelConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.steps is not None and self.steps < 1:
            raise ModelConfigError(f"steps must be at least 1, not {self.steps}")
        if self.steps is None and self.epochs <= 0:
            raise ModelConfigError(f"epochs must be above 0, not {self.epochs}")
        if self.learning_rate <= 0:
            raise ModelConfigError(f"learning_rate must be above 0, not {self.learning_rate}")
        for name in ("warmup", "checkpoint_every", "max_gradient_norm", "weight_decay"):
            if getattr(self, name) < 0:
                raise ModelConfigError(f"{name} must not be negative, not {getattr(self, name)}")
        if not 0.0 <= self.hold <= 1.0 or not 0.0 <= self.floor <= 1.0:
            raise ModelConfigError("hold and floor must lie in 0..1")

    def num_steps(self, num_examples: int) -> int:
        """Updates of the whole training; at least one."""
        if self.steps is not None:
            return self.steps
        return max(1, round(self.epochs * num_examples / self.batch_size))

    def warmup_steps(self, num_steps: int) -> int:
        """Updates of the warm-up."""
        return round(self.warmup * num_steps) if self.warmup < 1 else round(self.warmup)
