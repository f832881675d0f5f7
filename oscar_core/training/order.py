"""Which examples make up each batch: a function of the seed and the place in the training."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from oscar_core.task import Phase
from oscar_core.training.seeds import shuffled


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One example of a batch. epoch: how often its group was gone through before."""

    index: int
    epoch: int


class Order:
    """Goes through each group of a phase in shuffled passes, without end.

    A pass may end inside a batch; the next one begins there, so every batch is full.
    """

    def __init__(self, phases: Sequence[Phase], *, batch_size: int, seed: int) -> None:
        self._phases = phases
        self._batch_size = batch_size
        self._pass = lru_cache(maxsize=8)(self._shuffled)
        self._seed = seed

    def batch(self, phase: int, step: int) -> list[Drawn]:
        """The batch of update `step` (0-based) of a phase, group by group."""
        counts = counts_of([group.share for group in self._phases[phase].groups], self._batch_size)
        drawn: list[Drawn] = []
        for number, count in enumerate(counts):
            size = len(self._phases[phase].groups[number].indices)
            for place in range(step * count, (step + 1) * count):
                epoch, rest = divmod(place, size)
                drawn.append(Drawn(index=self._pass(phase, number, epoch)[rest], epoch=epoch))
        return drawn

    def _shuffled(self, phase: int, group: int, epoch: int) -> list[int]:
        indices = self._phases[phase].groups[group].indices
        return shuffled(indices, self._seed, 1000 * phase + group, epoch)


def counts_of(shares: Sequence[float], total: int) -> list[int]:
    """Whole numbers in proportion to the shares that add up to `total`; largest rests first."""
    exact = [share * total / sum(shares) for share in shares]
    counts = [int(each) for each in exact]
    by_rest = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))
    for i in by_rest[: total - sum(counts)]:
        counts[i] += 1
    return counts
