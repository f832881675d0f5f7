"""The one training loop, for every task."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from oscar_core.errors import TrainingError, TrainingStoppedError
from oscar_core.kept_memory import keep_freed_memory
from oscar_core.task import Phase
from oscar_core.training.averaging import factors_of
from oscar_core.training.beginning import begin
from oscar_core.training.checkpoints import Place
from oscar_core.training.config import TrainingConfig
from oscar_core.training.inspection import Incident, keep_batch
from oscar_core.training.learner import Learner
from oscar_core.training.lesson import Lesson
from oscar_core.training.loader import Part, StepParts, batches
from oscar_core.training.loss_log import LossLog
from oscar_core.training.order import Order
from oscar_core.training.precision import autocast
from oscar_core.training.schedule import rate_factor
from oscar_core.training.seeds import example_generator, seed_dropout
from oscar_core.training.sharding import gather_weights
from oscar_core.training.together import Together, merged
from oscar_core.training.tracking import Trackers
from oscar_core.training.writing import CheckpointWriter

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
    drawn_anew:   parts of the model that the one it started from lacks, with commas
    left_out:     parts of that one that the model lacks
    """

    num_steps: int
    num_examples: int
    last_loss: float
    phase_steps: dict[str, int]
    resumed_at: int
    seconds: float
    drawn_anew: str = ""
    left_out: str = ""


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
    place alone. What cannot be learned from is kept beside `losses`, and so are the trackers'
    files.

    Raises:
        TrainingError: The loss is not finite, or a checkpoint does not fit.
        TrainingStoppedError: `should_stop` said so; a checkpoint was written.
        OSError: A checkpoint could not be written.
    """
    started = time.monotonic()
    keep_freed_memory()
    learner, at = begin(lesson, training, model, together, checkpoints)
    resumed_at = at.step
    log = LossLog(losses)
    if together.writes:
        log.keep_until(at.step)
    num_steps = training.num_steps(len(lesson.examples))
    feed = _Feed(lesson, training, together, resumed_at)
    writer = CheckpointWriter(
        checkpoints, keep_last=training.keep_last, writes=together.writes, before=log.sync
    )
    with feed, writer, _trackers(training, together, losses.parent, at.step + 1) as trackers:
        calls = 0
        while at.step < num_steps:
            at = _enter_phase(lesson, training, model, together, at)
            phase = lesson.phases[at.phase].name
            rate = _set_rate(learner, training, at.step, len(lesson.examples))
            parts = feed.parts(at)
            if training.sharding != "none":
                _check_alike(together, parts)
            number = calls + 1 if training.compat.counts_calls else at.step + 1
            calls += len(parts)
            # last of all, as whatever comes before may draw from the same generator
            seed_update(training, together, at.step, resumed_at)
            own = _learn(lesson, training, together, learner, parts, number)
            told = together.exchange({"losses": _summed(own), "stops": should_stop()})
            values = merged([each["losses"] for each in told])
            norm = _gradient_norm(training, together, learner) if _is_number(values) else math.nan
            if not math.isfinite(norm) and not (learner.scale.may_fall and _is_number(values)):
                writer.save(learner, at)
                incident = Incident(
                    step=at.step + 1, phase=phase, losses=values, parts=parts, own=own
                )
                error = _cannot_learn(lesson, together, losses.parent, incident)
                _finish_together(writer, together)
                raise error
            update_weights(training, learner, is_finite=math.isfinite(norm))
            at = replace(at, step=at.step + 1)
            is_stopped = at.step < num_steps and any(each["stops"] for each in told)
            if together.writes:
                report = StepReport(step=at.step, num_steps=num_steps, phase=phase, losses=values)
                speed = {"learning_rate": rate, "gradient_norm": norm}
                log.add(at.step, phase, values, speed)
                trackers.log(at.step, values | speed)
                on_step(report)
            is_due = training.checkpoint_every and at.step % training.checkpoint_every == 0
            if is_stopped or (is_due and at.step < num_steps):
                writer.save(learner, at)
            writer.check()
            if is_stopped:
                _finish_together(writer, together)
                raise TrainingStoppedError(f"stopped after update {at.step} of {num_steps}")
    log.sync()
    _settle(training, learner)
    return TrainSummary(
        num_steps=num_steps,
        num_examples=len(lesson.examples),
        last_loss=log.last_loss() if together.writes else 0.0,
        phase_steps=_phase_steps(lesson.phases, at),
        resumed_at=resumed_at,
        seconds=round(time.monotonic() - started, 2),
    )


class _Feed:
    """What this process computes in each update; the stream of a phase is opened once."""

    def __init__(
        self, lesson: Lesson, training: TrainingConfig, together: Together, resumed_at: int
    ) -> None:
        self._lesson = lesson
        self._training = training
        self._together = together
        self._begun = resumed_at if training.compat.replays_when_resumed else 0
        self._order = Order(
            lesson.phases,
            batch_size=training.batch_size,
            seed=training.seed,
            repeats=training.compat.repeats_order,
        )
        self._phase = -1
        self._stream: Iterator[StepParts] = iter(())

    def parts(self, at: Place) -> tuple[Part, ...]:
        """The parts of the next update."""
        if at.phase != self._phase:
            self._close()
            self._phase = at.phase
            self._stream = batches(
                self._lesson,
                self._training,
                self._order,
                phase=at.phase,
                first_step=at.step - max(at.phase_start, self._begun),
                num=self._together.num,
                number=self._together.number,
                workers=self._training.workers,
            )
        return next(self._stream).parts

    def __enter__(self) -> "_Feed":
        return self

    def __exit__(self, *leaving: object) -> None:
        self._close()

    def _close(self) -> None:
        close = getattr(self._stream, "close", None)  # of a generator: ends its workers
        if close is not None:
            close()


def _trackers(
    training: TrainingConfig, together: Together, folder: Path, first_step: int
) -> Trackers:
    """Process 0 tells them, the others nobody."""
    names = training.trackers if together.number == 0 else ()
    settings = {name: getattr(training, name) for name in training.__slots__}
    return Trackers(names, folder, settings=settings, first_step=first_step)


def _set_rate(learner: Learner, training: TrainingConfig, step: int, num_examples: int) -> float:
    factor = rate_factor(training, step, training.scheduled_steps(num_examples))
    rate = training.learning_rate * factor
    for group in learner.optimiser.param_groups:
        group["lr"] = rate
    return rate


def seed_update(training: TrainingConfig, together: Together, step: int, resumed_at: int) -> None:
    """Dropout of an update, by its number and by process."""
    compat = training.compat
    seed_dropout(
        training.seed,
        step - resumed_at if compat.replays_when_resumed else step,
        0 if compat.shares_dropout else together.number,
    )


def _learn(
    lesson: Lesson,
    training: TrainingConfig,
    together: Together,
    learner: Learner,
    parts: Sequence[Part],
    number: int,
) -> list[dict[str, tuple[float, float]]]:
    """Gradients of this process's share of a batch, part by part.

    Each part counts by its examples, or each of its objectives by what it is averaged over, so
    that the update is that of the whole batch however it is cut. Gradients are added up by
    `Together.sum_gradients`, as a task may call more of its model than `forward`, which is all
    that DDP would see.

    Returns:
        Losses of each part: name -> (value times weight, weight).
    """
    learner.model.train()
    factors = factors_of(lesson, training, together, parts)
    own = []
    for place, (part, factor) in enumerate(zip(parts, factors, strict=True)):
        call = number + place if training.compat.counts_calls else number
        with autocast(training.precision, together.device):
            batch = part.batch.to(together.device)
            found = lesson.task.losses(lesson.config, learner.model, batch, call)
        total = found.total * part.weight
        if factor and found.terms:
            total = torch.stack([found.terms[name] * factor[name] for name in found.terms]).sum()
        torch.autograd.backward(total * learner.scale.value)
        weights = {name: factor.get(name, part.weight) for name in found.parts}
        told = {name: (float(found.parts[name]) * w, w) for name, w in weights.items()}
        own.append({"total": (float(total.detach()), part.weight)} | told)
        if training.compat.clips_every_part:
            limit = training.max_gradient_norm * learner.scale.value  # of gradients as scaled
            together.scale_gradients(learner.model.parameters(), limit)
    together.sum_gradients(learner.model.parameters())
    return own


def _finish_together(writer: CheckpointWriter, together: Together) -> None:
    """Nobody leaves before the checkpoint is whole.

    The first process to end with an error has torchrun end the others, the writing one too.
    """
    try:
        writer.finish()
    finally:
        together.wait()


def _check_alike(together: Together, parts: Sequence[Part]) -> None:
    """Sharded weights are gathered by all at once, part by part; else they would wait for ever."""
    nums = {each["parts"] for each in together.exchange({"parts": len(parts)})}
    if len(nums) > 1:
        raise TrainingError(
            f"sharding fsdp2: a batch falls into {min(nums)} to {max(nums)} parts by process; "
            "choose a batch_size that is a multiple of processes times accumulation"
        )


def _summed(own: Sequence[Mapping[str, tuple[float, float]]]) -> dict[str, tuple[float, float]]:
    """This process's losses: name -> (weighted sum, sum of weights)."""
    names = dict.fromkeys(name for each in own for name in each)
    pairs = {name: [each[name] for each in own if name in each] for name in names}
    return {name: (sum(v for v, _ in p), sum(w for _, w in p)) for name, p in pairs.items()}


def _is_number(values: Mapping[str, float]) -> bool:
    return math.isfinite(values["total"])


def _gradient_norm(training: TrainingConfig, together: Together, learner: Learner) -> float:
    """Cut the gradients, once (specs/oscar.md Q6) unless every part was cut; their norm before."""
    limit = 0.0 if training.compat.clips_every_part else training.max_gradient_norm
    return together.scale_gradients(learner.model.parameters(), limit, learner.scale.value)


def update_weights(training: TrainingConfig, learner: Learner, *, is_finite: bool) -> None:
    """Move the weights, unless fp16 gradients overflowed."""
    if is_finite:
        learner.optimiser.step()
        if learner.average is not None:
            learner.average.follow(learner.model)
    learner.scale.learn(is_finite=is_finite)
    learner.optimiser.zero_grad(set_to_none=not training.compat.keeps_zero_gradients)


def _settle(training: TrainingConfig, learner: Learner) -> None:
    """Leave the model as it is to be stored: averaged if so configured, and whole."""
    if learner.average is not None and training.writes_ema:
        learner.average.replace_weights(learner.model)
    gather_weights(learner.model)


def _cannot_learn(
    lesson: Lesson, together: Together, folder: Path, incident: Incident
) -> TrainingError:
    """Keep the batch of an update that cannot be made; the weights before it are stored.

    With several processes those keep theirs whose losses are no numbers; all of them, if only
    the gradients are none.
    """
    is_mine = not all(math.isfinite(each["total"][0]) for each in incident.own)
    process = f"-process{together.number}" if together.num > 1 else ""
    told = incident.losses["total"]
    said = f"the loss is {told}" if not math.isfinite(told) else "the gradients are not finite"
    place = folder / f"nan-batch-{incident.step:07d}{process}.json"
    if is_mine or math.isfinite(told):
        place = keep_batch(folder, lesson, incident, process=process)
    return TrainingError(
        f"update {incident.step}: {said}; its batch is kept in {place.name} beside the losses; "
        "look at it, or lower the rate"
    )


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
