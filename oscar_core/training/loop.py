"""The one training loop, for every task."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oscar_core.errors import TrainingError, TrainingStoppedError
from oscar_core.task import Phase
from oscar_core.training.checkpoints import Place, load_checkpoint, save_checkpoint
from oscar_core.training.config import TrainingConfig
from oscar_core.training.lesson import Lesson
from oscar_core.training.loss_log import LossLog
from oscar_core.training.optimiser import PublishedAdamW, build_optimiser
from oscar_core.training.order import Drawn, Order
from oscar_core.training.schedule import rate_factor
from oscar_core.training.seeds import example_generator, seed_dropout
from oscar_core.training.together import Together, merged

_PROBE_SEED = 0x9E3779B9


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One update. losses: "total" and the task's parts."""

    step: int
    num_steps: int
    phase: str
    losses: dict[str, float]

    @property
    def total(self) -> float:
        """What was minimised."""
        return self.losses["total"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSummary:
    """A finished training.

    num_examples: it chose from
    last_loss:    mean total of the last tenth of the updates
    phase_steps:  phase -> updates it took
    resumed_at:   updates that earlier, interrupted processes had done
    """

    num_steps: int
    num_examples: int
    last_loss: float
    phase_steps: dict[str, int]
    resumed_at: int
    seconds: float


def train(
    lesson: Lesson,
    training: TrainingConfig,
    model: nn.Module,
    together: Together,
    *,
    checkpoints: Path,
    losses: Path,
    on_step: Callable[[StepReport], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainSummary:
    """Train a model in place, from its last checkpoint if there is one.

    An interrupted and resumed training ends with bitwise the same weights as an unbroken one
    (same machine, threads and number of processes): order, dice and dropout follow from seed and
    place alone.

    Raises:
        TrainingError: The loss is not finite, or a checkpoint does not fit.
        TrainingStoppedError: `should_stop` said so; a checkpoint was written.
    """
    started = time.monotonic()
    model.to(together.device)
    optimiser = build_optimiser(model, training)
    at = Place(identity=lesson.identity)
    if together.writes:
        at = load_checkpoint(checkpoints, model, optimiser, lesson.identity)
    at = together.share_beginning(model, optimiser, at)
    resumed_at = at.step
    log = LossLog(losses)
    if together.writes:
        log.keep_until(at.step)
    stepper = together.accelerator.prepare(optimiser)
    num_steps = training.num_steps(len(lesson.examples))
    order = Order(lesson.phases, batch_size=training.batch_size, seed=training.seed)
    while at.step < num_steps:
        at = _enter_phase(lesson, training, model, together, at)
        phase = lesson.phases[at.phase]
        rate = training.learning_rate * rate_factor(training, at.step, num_steps)
        for group in stepper.param_groups:
            group["lr"] = rate
        seed_dropout(training.seed, at.step, together.number)
        drawn = order.batch(at.phase, at.step - at.phase_start)
        share = _update(lesson, training, together, model, stepper, drawn, at.step + 1)
        at = replace(at, step=at.step + 1)
        told = together.exchange({"losses": share, "stops": should_stop()})
        values = merged([each["losses"] for each in told])
        if not math.isfinite(values["total"]):
            raise TrainingError(f"update {at.step}: the loss is {values['total']}; lower the rate")
        is_stopped = at.step < num_steps and any(each["stops"] for each in told)
        if together.writes:
            report = StepReport(step=at.step, num_steps=num_steps, phase=phase.name, losses=values)
            log.add(report.step, report.phase, report.losses)
            on_step(report)
            is_due = training.checkpoint_every and at.step % training.checkpoint_every == 0
            if is_stopped or (is_due and at.step < num_steps):
                log.sync()
                save_checkpoint(checkpoints, model, optimiser, at)
        if is_stopped:
            raise TrainingStoppedError(f"stopped after update {at.step} of {num_steps}")
    log.sync()
    return TrainSummary(
        num_steps=num_steps,
        num_examples=len(lesson.examples),
        last_loss=_last_loss(log.rows),
        phase_steps=_phase_steps(lesson.phases, at),
        resumed_at=resumed_at,
        seconds=round(time.monotonic() - started, 2),
    )


def _update(
    lesson: Lesson,
    training: TrainingConfig,
    together: Together,
    model: nn.Module,
    stepper: PublishedAdamW,
    drawn: Sequence[Drawn],
    number: int,
) -> dict[str, tuple[float, float]]:
    """One update on one batch, in parts if so configured; clipped once (specs/oscar.md Q6).

    Each process takes its share of the batch, and each part counts by its examples, so that the
    update is that of the whole batch however it is cut. Gradients are added up here, as a task
    may call more of its model than `forward`, which is all that DDP would see.

    Returns:
        This process's losses: name -> (weighted sum, sum of weights).
    """
    model.train()
    mine = drawn[together.number :: together.num]
    parts = [mine[place :: training.accumulation] for place in range(training.accumulation)]
    share: dict[str, tuple[float, float]] = {}
    for part in (each for each in parts if each):
        examples = [lesson.examples[each.index] for each in part]
        generators = [example_generator(training.seed, each.epoch, each.index) for each in part]
        batch = lesson.task.collate(lesson.config, lesson.knowledge, examples, generators)
        found = lesson.task.losses(lesson.config, model, batch.to(together.device), number)
        weight = len(part) / len(drawn)
        together.accelerator.backward(found.total * weight)
        for name, value in {"total": found.total.detach(), **found.parts}.items():
            total, weights = share.get(name, (0.0, 0.0))
            share[name] = (total + float(value) * weight, weights + weight)
    together.sum_gradients(model.parameters())
    if training.max_gradient_norm > 0:
        together.accelerator.clip_grad_norm_(model.parameters(), training.max_gradient_norm)
    stepper.step()
    stepper.zero_grad()
    return share


def _enter_phase(
    lesson: Lesson, training: TrainingConfig, model: nn.Module, together: Together, at: Place
) -> Place:
    """Go to the next phase if this one has had its steps or reached its goal."""
    phase = lesson.phases[at.phase]
    done = at.step - at.phase_start
    if at.phase == len(lesson.phases) - 1 or done == 0:
        return at
    is_over = phase.max_steps is not None and done >= phase.max_steps
    if not is_over and phase.goal is not None and done % phase.check_every == 0:
        is_over = together.agree(probe(lesson, training, model, phase.probe) >= phase.goal)
    return replace(at, phase_starts=(*at.phase_starts, at.step)) if is_over else at


@torch.no_grad()
def probe(
    lesson: Lesson, training: TrainingConfig, model: nn.Module, indices: Sequence[int]
) -> float:
    """Share of probe examples answered rightly; always the same dice."""
    model.eval()
    right = asked = 0
    device = next(model.parameters()).device
    for start in range(0, len(indices), training.batch_size):
        part = indices[start : start + training.batch_size]
        generators = [example_generator(_PROBE_SEED, 0, index) for index in part]
        examples = [lesson.examples[index] for index in part]
        batch = lesson.task.collate(lesson.config, lesson.knowledge, examples, generators)
        found = lesson.task.num_right(lesson.config, model, batch.to(device))
        right, asked = right + found[0], asked + found[1]
    return right / max(1, asked)


def _phase_steps(phases: Sequence[Phase], at: Place) -> dict[str, int]:
    ends = [*at.phase_starts[1:], at.step]
    begun = zip(at.phase_starts, ends, strict=True)
    return {phases[number].name: end - start for number, (start, end) in enumerate(begun)}


def _last_loss(rows: Sequence[dict[str, Any]]) -> float:
    last = rows[-max(1, len(rows) // 10) :]
    return round(sum(float(row["total"]) for row in last) / max(1, len(last)), 5)
