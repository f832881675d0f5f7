"""What each process computes in each update: collated parts of the batch and their weights.

A part is what is computed at once. Which examples it holds and what their dice say follows from
the seed and the place in the training alone, never from the number of workers or processes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from oscar_core.training.config import TrainingConfig
from oscar_core.training.lesson import Lesson
from oscar_core.training.order import Drawn, Order
from oscar_core.training.seeds import example_generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What is computed at once.

    batch:        as the task collates it
    weight:       of its loss in that of the update; all parts of all processes add up to 1
    num_examples: in it
    examples:     index of each in the lesson
    """

    batch: Any
    weight: float
    num_examples: int
    examples: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepParts:
    """What one process computes in one update; empty where there are more processes than examples.

    step: of the phase, from 0
    """

    step: int
    parts: tuple[Part, ...]


def batches(
    lesson: Lesson,
    training: TrainingConfig,
    order: Order,
    *,
    phase: int,
    first_step: int,
    num: int,
    number: int,
    workers: int = 0,
) -> Iterator[StepParts]:
    """The updates of a phase for one process, from `first_step` on, without end.

    Args:
        lesson: Examples and how to collate them.
        training: Its seed and `accumulation`.
        order: Of the examples.
        phase: Number of the phase.
        first_step: Of the phase, from 0; nothing before it is drawn.
        num: Processes that train together.
        number: This one's.
        workers: Processes that collate ahead; 0: this one collates when asked.
    """
    step = first_step
    while True:
        drawn = order.batch(phase, step)[number::num]
        yield StepParts(step=step, parts=collated(lesson, training, drawn))
        step += 1


def collated(
    lesson: Lesson, training: TrainingConfig, drawn: list[Drawn]
) -> tuple[Part, ...]:
    """The parts of one process's share of a batch; none is empty."""
    places = (drawn[place :: training.accumulation] for place in range(training.accumulation))
    return tuple(_part(lesson, training, each) for each in places if each)


def _part(lesson: Lesson, training: TrainingConfig, drawn: list[Drawn]) -> Part:
    examples = [lesson.examples[each.index] for each in drawn]
    generators = [example_generator(training.seed, each.epoch, each.index) for each in drawn]
    return Part(
        batch=lesson.task.collate(lesson.config, lesson.knowledge, examples, generators),
        weight=len(drawn) / training.batch_size,
        num_examples=len(drawn),
        examples=tuple(each.index for each in drawn),
    )
