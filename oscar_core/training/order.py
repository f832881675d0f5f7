"""Which examples make up each batch: a function of the seed and the place in the training.

Neither the number of processes nor that of workers enters, and nothing before a batch has to be
gone through to know it.

Letters: B examples of a batch, N examples of a group.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from oscar_core.task import Group, Phase
from oscar_core.training.seeds import order_generator

_CYCLE = 10_000
"""Examples after which the pattern of groups repeats; shares are kept to so many parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """Some examples of a batch, group by group.

    indices: (B,) int64
    epochs:  (B,) int32    how often its group was gone through before
    pools:   (B,) int16    `Group.pool`: examples of one pool have a mean loss in common
    weights: (B,) float64  of each example's loss; those of a batch add up to 1
    """

    indices: NDArray[np.int64]
    epochs: NDArray[np.int32]
    pools: NDArray[np.int16]
    weights: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, chosen: "slice | NDArray[np.bool_]") -> "Drawn":
        return Drawn(
            indices=self.indices[chosen],
            epochs=self.epochs[chosen],
            pools=self.pools[chosen],
            weights=self.weights[chosen],
        )


class Order:
    """Goes through each group of a phase in shuffled passes, without end.

    A pass may end inside a batch; the next one begins there, so every batch is full. Groups take
    turns so that any stretch of examples holds each by its share, give or take one.
    """

    def __init__(
        self, phases: Sequence[Phase], *, batch_size: int, seed: int, repeats: bool = False
    ) -> None:
        """Take the groups.

        Args:
            phases: Of the training.
            batch_size: B.
            seed: Of the training.
            repeats: Every pass has the order of the first (compat Q9); dice still differ.
        """
        self._phases = phases
        self._batch_size = batch_size
        self._seed = seed
        self._repeats = repeats
        # each group's pass and, at its end, one group's next
        most = max((len(phase.groups) for phase in phases), default=0)
        self._pass = lru_cache(maxsize=most + 1)(self._shuffled)
        self._turns = lru_cache(maxsize=2)(self._turns_of)

    def batch(self, phase: int, step: int) -> Drawn:
        """The batch of update `step` (0-based) of a phase."""
        groups = self._phases[phase].groups
        turns = self._turns(phase)
        numbers = np.arange(step * self._batch_size, (step + 1) * self._batch_size)
        cycle, turn = np.divmod(numbers, len(turns.groups))
        group_of = turns.groups[turn]
        places = cycle * turns.counts[group_of] + turns.before[turn]
        indices = np.empty(self._batch_size, np.int64)
        epochs = np.empty(self._batch_size, np.int32)
        for number, group in enumerate(groups):
            mine = group_of == number
            epochs[mine], rests = np.divmod(places[mine], len(group.indices))
            indices[mine] = self._at(phase, number, epochs[mine], rests)
        pools, weights = _pools(self._phases[phase], group_of)
        by_group = np.argsort(group_of, kind="stable")
        return Drawn(
            indices=indices[by_group],
            epochs=epochs[by_group],
            pools=pools[by_group],
            weights=weights[by_group],
        )

    def _at(
        self, phase: int, group: int, epochs: NDArray[np.int32], rests: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Examples at places of passes."""
        found = np.empty(len(rests), np.int64)
        for epoch in np.unique(epochs):
            there = epochs == epoch
            found[there] = self._pass(phase, group, 0 if self._repeats else int(epoch))[
                rests[there]
            ]
        return found

    def _shuffled(self, phase: int, group: int, epoch: int) -> NDArray[np.int32]:
        """One pass over a group."""
        chosen = self._phases[phase].groups[group]
        draw = order_generator(self._seed, 1000 * phase + group, epoch)
        return shuffled(chosen, draw)

    def _turns_of(self, phase: int) -> "_Turns":
        return _take_turns([group.share for group in self._phases[phase].groups])


def shuffled(group: Group, draw: np.random.Generator) -> NDArray[np.int32]:
    """The examples of a group in a random order; with places, window after window.

    With places, these are shuffled and cut into windows, and the examples of each window are
    shuffled: what is read stays within a window at any time, and disks are read from front to back
    inside each place.
    """
    order = np.arange(len(group.indices), dtype=np.int32)
    draw.shuffle(order)
    if group.places is not None and group.window > 0:
        present, place_of = np.unique(group.places, return_inverse=True)
        rank = np.empty(len(present), np.int32)
        rank[draw.permutation(len(present))] = np.arange(len(present), dtype=np.int32)
        window_of = rank // group.window
        narrow = np.min_scalar_type(int(window_of.max()))  # 16 bits and fewer are sorted by radix
        windows = window_of.astype(narrow)[np.asarray(place_of, np.int32)]
        order = order[np.argsort(windows[order], kind="stable")]
    if isinstance(group.indices, range) and group.indices.step == 1:
        order += group.indices.start
        return order
    return np.asarray(group.indices, dtype=np.int32)[order]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turns:
    """Which group each example of a cycle comes from.

    groups: (cycle,) int16
    before: (cycle,) int64   examples of the same group earlier in the cycle
    counts: (groups,) int64  examples of each group in a cycle
    """

    groups: NDArray[np.int16]
    before: NDArray[np.int64]
    counts: NDArray[np.int64]


def _take_turns(shares: Sequence[float]) -> _Turns:
    """A cycle in which the group that is furthest behind its share is next."""
    counts = [1] if len(shares) == 1 else [max(1, each) for each in counts_of(shares, _CYCLE)]
    wanted = np.array(counts, dtype=np.float64)
    total = int(wanted.sum())
    taken = np.zeros(len(shares), dtype=np.int64)
    groups = np.empty(total, np.int16)
    before = np.empty(total, np.int64)
    for place in range(total):
        behind = wanted * (place + 1) / total - taken
        behind[taken >= wanted] = -np.inf
        group = int(behind.argmax())
        groups[place], before[place] = group, taken[group]
        taken[group] += 1
    return _Turns(groups=groups, before=before, counts=taken)


def _pools(
    phase: Phase, group_of: NDArray[np.int16]
) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Which examples have a mean loss in common, and how much each counts in the total.

    A pool that has no example in the batch leaves its weight to the others.
    """
    pools = np.array([group.pool for group in phase.groups], np.int16)[group_of]
    present, sizes = np.unique(pools, return_counts=True)
    weight_of_pool = phase.pool_weights()
    weights = np.empty(len(pools))
    for pool, size in zip(present.tolist(), sizes.tolist(), strict=True):
        weights[pools == pool] = weight_of_pool[pool] / size
    if len(present) < len(weight_of_pool):
        weights /= weights.sum()
    return pools, weights


def counts_of(shares: Sequence[float], total: int) -> list[int]:
    """Whole numbers in proportion to the shares that add up to `total`; largest rests first."""
    exact = [share * total / sum(shares) for share in shares]
    counts = [int(each) for each in exact]
    by_rest = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))
    for i in by_rest[: total - sum(counts)]:
        counts[i] += 1
    return counts
