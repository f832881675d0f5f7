"""Which examples the original's pretraining shows in which iteration, for comparing runs with it.

Our own order (`oscar_core.training.order`) is another on purpose: the original's depends on the
number of processes and on the iteration at which it was started (specs/oscar.md 7; Q24).
"""

from collections.abc import Callable, Iterator

import torch

Pass = Callable[[int], list[int]]
"""The examples of one process in a pass, by the iteration at which the pass begins."""


def in_order(num: int) -> Pass:
    """Every pass from the first example to the last."""
    return lambda _: list(range(num))


def shared_shuffled(num: int, *, world: int, rank: int) -> Pass:
    """A random order, seeded with the iteration, of which each process takes every `world`-th.

    It is filled up from its own beginning to a multiple of `world`.

    Source: `torch.utils.data.DistributedSampler` as `oscar/datasets/build.py` uses it.
    """

    def one(begun_at: int) -> list[int]:
        generator = torch.Generator().manual_seed(begun_at)
        order: list[int] = torch.randperm(num, generator=generator).tolist()
        while len(order) % world:
            order += order[: world - len(order) % world]
        return order[rank::world]

    return one


def original_batches(
    examples_of: Pass, *, batch_size: int, num_iterations: int, first: int = 0
) -> Iterator[list[int]]:
    """The batches of one process from iteration `first` on; the last of a pass may be short.

    A resumed run begins a new pass, seeded with its first iteration.

    Source: `oscar/datasets/build.py:IterationBasedBatchSampler`.
    """
    done = first
    while done <= num_iterations:
        shown = examples_of(done)
        for start in range(0, len(shown), batch_size):
            done += 1
            if done > num_iterations:
                return
            yield shown[start : start + batch_size]
