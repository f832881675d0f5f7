"""Recorded trainings of the original, gone through by our training loop.

The loop draws its examples in an order of its own, so what was recorded is put where that order
finds it: an example is a whole recorded micro batch, and every update gets those of its number.
All else is the loop's: parts and their weights, cutting, rates, updates, checkpoints.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oscar_core.errors import TrainingStoppedError
from oscar_core.task import Group, Knowledge, Losses, Phase, Task
from oscar_core.tokens import SPECIAL_TOKENS, Tokenizer
from oscar_core.training.config import TrainingConfig
from oscar_core.training.lesson import Lesson
from oscar_core.training.loop import StepReport, train
from oscar_core.training.order import Order
from oscar_core.training.together import Together, join

Place = tuple[int, int]
"""Number of a micro step, number of a data set (0 main, 1 extra)."""
Judge = Callable[[nn.Module, Any, int], Losses]
"""Model, batch, number of the update or call -> losses."""

_LEAST = 1e-30  # of a data set that counts for nothing: the original goes through it all the same


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """What is computed at once; `batch` is one of ours."""

    place: Place
    batch: Any

    def to(self, device: torch.device | str) -> "MicroBatch":
        return MicroBatch(place=self.place, batch=self.batch.to(device))


class RecordedTask(Task):
    """Hands the loop micro batches as they are; `config` is what judges them."""

    def collate(self, config: Any, knowledge: Any, examples: Any, generators: Any) -> MicroBatch:
        (one,) = examples
        assert isinstance(one, MicroBatch)
        return one

    def losses(self, config: Any, model: nn.Module, batch: Any, number: int) -> Losses:
        found = config.judge(model, config.sets[batch.place[1]], batch.batch, number)
        assert batch.place not in config.found, f"micro batch {batch.place} was learned twice"
        config.found[batch.place] = found
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What is learned, and what was found.

    steps:       batches of each micro step, one a data set
    extra:       weight of the second data set
    judge:       losses of a batch of a data set
    sets:        whatever `judge` needs to know of each data set
    found:       losses by micro batch
    norms:       of the gradients, whenever they were cut
    reports:     of the updates
    """

    steps: Sequence[Sequence[Any]]
    extra: float
    judge: Callable[[nn.Module, Any, Any, int], Losses]
    sets: Sequence[Any]
    found: dict[Place, Losses] = field(default_factory=dict)
    norms: list[float] = field(default_factory=list)
    reports: list[StepReport] = field(default_factory=list)

    @property
    def shares(self) -> tuple[float, ...]:
        """How much each data set counts."""
        return (1.0,) if len(self.sets) == 1 else (1.0 - self.extra, self.extra)


class _Watched(Together):
    """One process, whose cuts of gradients are noted down."""

    norms: list[float]

    def scale_gradients(self, *args: Any, **settings: Any) -> float:
        self.norms.append(super().scale_gradients(*args, **settings))
        return self.norms[-1]


def learn(
    course: Course,
    training: TrainingConfig,
    model: nn.Module,
    folder: Path,
    *,
    updates: int,
    after: Callable[[int], None] = lambda step: None,
) -> None:
    """Train until so many updates are done, from the checkpoint in `folder` if there is one.

    Args:
        course: Is added to.
        training: Its steps are those of the schedule.
        model: Changed in place.
        folder: Of checkpoints and losses.
        updates: After which to stop, earlier ones included.
        after: Told the number of every update.
    """
    together = _Watched(join().accelerator)
    together.norms = course.norms

    def on_step(report: StepReport) -> None:
        course.reports.append(report)
        after(report.step)

    def is_last() -> bool:
        before = course.reports[-1].step if course.reports else begun
        return before + 1 >= updates

    begun = updates - len(course.steps) // training.accumulation
    begun = max(0, begun)
    try:
        train(
            _lesson(course, training),
            training,
            model,
            together,
            checkpoints=folder / "checkpoints",
            losses=folder / "losses.jsonl",
            on_step=on_step,
            should_stop=is_last,
        )
    except TrainingStoppedError:
        assert updates < training.num_steps(0)
    assert course.reports[-1].step == updates


def batch_size(num_sets: int, accumulation: int) -> int:
    """Micro batches of an update."""
    return num_sets * accumulation


def _lesson(course: Course, training: TrainingConfig) -> Lesson:
    phase = Phase(name="recorded", groups=_groups(course, training.accumulation))
    return Lesson(
        task=RecordedTask(name="recorded", config=Course, package="tests.oracle"),
        config=course,
        knowledge=Knowledge(tokenizer=Tokenizer([*SPECIAL_TOKENS])),
        examples=_arranged(course, training, phase),
        phases=(phase,),
        identity="recorded",
    )


def _groups(course: Course, accumulation: int) -> tuple[Group, ...]:
    """Numbers of micro batches, data set by data set; what fills no update is left out."""
    num = len(course.steps) // accumulation * accumulation
    main = Group(indices=range(num))
    if len(course.sets) == 1:
        return (main,)
    weight = min(max(course.extra, _LEAST), 1.0 - 1e-16)
    return (main, Group(indices=range(num, 2 * num), pool=1, loss_weight=weight))


def _arranged(course: Course, training: TrainingConfig, phase: Phase) -> list[MicroBatch | None]:
    """Micro batches, each where the order draws it in its turn."""
    order = Order([phase], batch_size=training.batch_size, seed=training.seed)
    parts = training.accumulation
    assert training.batch_size == batch_size(len(course.sets), parts)
    examples: list[MicroBatch | None] = [None] * sum(len(g.indices) for g in phase.groups)
    for update in range(len(course.steps) // parts):
        drawn = order.batch(0, update)
        for number in range(len(course.sets)):
            places = drawn.indices[drawn.pools == number].tolist()
            for part, place in zip(range(parts), places, strict=True):
                step = update * parts + part
                batch = course.steps[step][number]
                assert examples[place] is None
                examples[place] = MicroBatch(place=(step, number), batch=batch)
    return examples


def scaled_losses(course: Course, accumulation: int) -> list[float]:
    """What each micro step adds to the loss of its update, in order."""
    by_place: Mapping[Place, Losses] = course.found
    return [
        sum(
            float(by_place[step, number].total.detach()) * share / accumulation
            for number, share in enumerate(course.shares)
        )
        for step in range(len(course.found) // len(course.sets))
    ]
