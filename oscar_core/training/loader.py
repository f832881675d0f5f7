"""What each process computes in each update: collated parts of the batch and their weights.

A part is what is computed at once. Which examples it holds and what their dice say follows from
the seed and the place in the training alone, never from the number of workers or processes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from oscar_core.training.config import TrainingConfig
from oscar_core.training.lesson import Lesson
from oscar_core.training.order import Drawn, Order
from oscar_core.training.seeds import example_generator

_AHEAD = 2
"""Updates that each worker prepares before they are asked for."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What is computed at once.

    batch:        as the task collates it
    weight:       of its loss in that of the update; all parts of all processes add up to 1
    num_examples: in it
    pool:         of its examples (`Group.pool`), which are all of one
    examples:     index of each in the lesson
    """

    batch: Any
    weight: float
    num_examples: int
    examples: tuple[int, ...]
    pool: int = 0


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

    Worker processes end when the iterator is closed.

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
    steps = _Steps(lesson, training, order, phase, num, number)
    if workers == 0:
        yield from map(steps.__getitem__, count(first_step))
        return
    ahead = DataLoader(
        steps,
        batch_size=None,
        sampler=_From(first_step),
        num_workers=workers,
        prefetch_factor=_AHEAD,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # torch's own is the dropout's
        multiprocessing_context="fork",  # examples and tables are shared, not copied
    )
    found = iter(ahead)
    try:
        yield from found
    finally:
        # torch ends its workers when the last reference goes; a generator that is closed in the
        # middle of an error would hold it in the traceback
        found._shutdown_workers()  # type: ignore[attr-defined]  # torch has no public way


class _Steps(Dataset[StepParts]):
    """The updates of a phase for one process, by number."""

    def __init__(
        self,
        lesson: Lesson,
        training: TrainingConfig,
        order: Order,
        phase: int,
        num: int,
        number: int,
    ) -> None:
        self._lesson = lesson
        self._training = training
        self._order = order
        self._phase = phase
        self._mine = slice(number, None, num)

    def __getitem__(self, step: int) -> StepParts:
        drawn = self._order.batch(self._phase, step)[self._mine]
        return StepParts(step=step, parts=tuple(self._parts(drawn)))

    def _parts(self, drawn: Drawn) -> Iterator[Part]:
        """This process's share of a batch, cut as configured and between pools; none is empty."""
        for pool in np.unique(drawn.pools):
            of_pool = drawn[drawn.pools == pool]
            for place in range(self._training.accumulation):
                part = of_pool[place :: self._training.accumulation]
                if len(part):
                    yield self._part(part)

    def _part(self, drawn: Drawn) -> Part:
        indices, epochs = drawn.indices.tolist(), drawn.epochs.tolist()
        examples = [self._lesson.examples[index] for index in indices]
        generators = [
            example_generator(self._training.seed, epoch, index)
            for epoch, index in zip(epochs, indices, strict=True)
        ]
        return Part(
            batch=self._lesson.task.collate(
                self._lesson.config, self._lesson.knowledge, examples, generators
            ),
            weight=float(drawn.weights.sum()),
            num_examples=len(indices),
            examples=tuple(indices),
            pool=int(drawn.pools[0]),
        )


class _From(Sampler[int]):
    """All whole numbers from one on."""

    def __init__(self, first: int) -> None:
        self._first = first

    def __iter__(self) -> Iterator[int]:
        return count(self._first)


def _as_it_is(parts: _T) -> _T:
    """Keep torch from making tensors of what is ready."""
    return parts
