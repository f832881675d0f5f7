"""The settings of one training."""

from dataclasses import dataclass, field, replace
from typing import Literal

from oscar_core.compat import TrainingCompat
from oscar_core.errors import ModelConfigError

Schedule = Literal["linear", "constant", "hold"]
PrecisionName = Literal["fp32", "bf16", "fp16"]
TrackerName = Literal["tensorboard", "mlflow", "wandb"]
Averaging = Literal["part", "batch"]
Sharding = Literal["none", "fsdp2"]

_UNLEARNED = (
    "accumulation",
    "checkpoint_every",
    "keep_last",
    "workers",
    "trackers",
    "sharding",
    "gradient_checkpointing",
)
"""How the same is learned: cut, stored, read, told or spread otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """How long, how fast, how often; the defaults are the published fine-tuning.

    Attributes:
        steps: Updates in all; None: `epochs` decides.
        epochs: Passes over the examples.
        batch_size: Examples an update, over all processes and accumulated parts.
        accumulation: Parts a batch is computed in.
        averaging: Over what an objective is averaged that does not count by examples (masked
            words). "part": over the words of each part of each process, and the parts by their
            examples, as the original does. "batch": over the words of the whole batch, so that
            the same is learned however many processes and parts compute it.
        learning_rate: The highest one.
        schedule: "linear": warm-up, then down to 0. "constant": warm-up, then the full rate.
            "hold": warm-up, full rate for `hold` of all steps, then linearly to `floor`.
        warmup: Steps, or a share of all steps if below 1.
        hold: Share of the steps before the rate falls.
        floor: Share of the rate that is left at the end of "hold".
        betas: Of Adam.
        weight_decay: 0.01 in pretraining, 0.05 in fine-tuning. Not for biases and LayerNorm.
        max_gradient_norm: Gradients are cut to this L2 norm; 0 leaves them.
        precision: Of the matrix products. "bf16" and "fp16" keep weights and optimiser in fp32;
            "fp16" scales the loss, and passes over an update whose gradients overflow.
        ema: d of a moving average of the weights, a = d * a + (1 - d) * w after every
            update; 0: none is kept.
        writes_ema: Whether the stored model has the averaged weights, if there are any.
        seed: Of weights, order and dice.
        standardise_regions: Learn on region inputs with mean 0 and deviation 1 in every
            dimension; folded into the weights afterwards, so the stored model reads plain inputs.
        checkpoint_every: Steps between two checkpoints; 0: none.
        keep_last: Checkpoints that are kept.
        workers: Processes that read and lay out examples ahead; 0: the training does it itself.
        trackers: Where the losses are also told, besides `losses.jsonl`.
        sharding: "fsdp2": weights, gradients and moments of the encoder's layers are divided
            among the processes, for models that are too large for one.
        gradient_checkpointing: Compute each layer twice instead of keeping what is in it: less
            memory, a third more time.
        compat: Quirks of the original loops.

    Source: `oscar/run_captioning.py`, `oscar/run_oscarplus_pretrain.py`; specs/oscar.md 8, 9.2.
    """

    steps: int | None = None
    epochs: float = 1.0
    batch_size: int = 64
    accumulation: int = 1
    averaging: Averaging = "part"
    learning_rate: float = 5e-5
    schedule: Schedule = "linear"
    warmup: float = 0.0
    hold: float = 0.7
    floor: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    adam_epsilon: float = 1e-8
    weight_decay: float = 0.05
    max_gradient_norm: float = 1.0
    precision: PrecisionName = "fp32"
    ema: float = 0.0
    writes_ema: bool = True
    seed: int = 88
    standardise_regions: bool = False
    checkpoint_every: int = 500
    keep_last: int = 2
    workers: int = 0
    trackers: tuple[TrackerName, ...] = ()
    sharding: Sharding = "none"
    gradient_checkpointing: bool = False
    compat: TrainingCompat = field(default_factory=TrainingCompat)

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        for name in ("batch_size", "accumulation", "keep_last"):
            if getattr(self, name) < 1:
                raise ModelConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.steps is not None and self.steps < 1:
            raise ModelConfigError(f"steps must be at least 1, not {self.steps}")
        if self.steps is None and self.epochs <= 0:
            raise ModelConfigError(f"epochs must be above 0, not {self.epochs}")
        if self.learning_rate <= 0:
            raise ModelConfigError(f"learning_rate must be above 0, not {self.learning_rate}")
        for name in ("warmup", "checkpoint_every", "max_gradient_norm", "weight_decay", "workers"):
            if getattr(self, name) < 0:
                raise ModelConfigError(f"{name} must not be negative, not {getattr(self, name)}")
        if not 0.0 <= self.hold <= 1.0 or not 0.0 <= self.floor <= 1.0:
            raise ModelConfigError("hold and floor must lie in 0..1")
        if not 0.0 <= self.ema < 1.0:
            raise ModelConfigError(f"ema must lie in 0..1, not {self.ema}")
        if self.compat.clips_every_part and self.sharding != "none":
            raise ModelConfigError("clips_every_part cannot be had with sharded gradients")

    def num_steps(self, num_examples: int) -> int:
        """Updates of the whole training; at least one.

        Source: `run_captioning.py:train` for what `overshoots_steps` gives.
        """
        if self.steps is not None:
            if not self.compat.overshoots_steps:
                return self.steps
            parts = -(-num_examples * self.accumulation // self.batch_size)
            a_pass = max(1, parts // self.accumulation)
            return (self.steps // a_pass + 1) * a_pass
        return max(1, round(self.epochs * num_examples / self.batch_size))

    def scheduled_steps(self, num_examples: int) -> int:
        """Updates that the schedule is made for."""
        return self.steps if self.steps is not None else self.num_steps(num_examples)

    def warmup_steps(self, num_steps: int) -> int:
        """Updates of the warm-up."""
        return round(self.warmup * num_steps) if self.warmup < 1 else round(self.warmup)

    def learned(self) -> "TrainingConfig":
        """Without what changes nothing that is learned; two such trainings are the same one."""
        plain = TrainingConfig()
        return replace(self, **{name: getattr(plain, name) for name in _UNLEARNED})
