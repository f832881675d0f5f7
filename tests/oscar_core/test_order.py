"""Which examples make up a batch: passes, shares, windows, pools."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscar_core.errors import TaskError
from oscar_core.task import Group, Phase
from oscar_core.training.order import Drawn, Order, counts_of


def order_of(*groups: Group, batch_size: int = 8, seed: int = 0, repeats: bool = False) -> Order:
    phases = [Phase(name="all", groups=groups)]
    return Order(phases, batch_size=batch_size, seed=seed, repeats=repeats)


def drawn(order: Order, num: int) -> Drawn:
    """Some batches in a row."""
    parts = [order.batch(0, step) for step in range(num)]
    return Drawn(
        indices=np.concatenate([each.indices for each in parts]),
        epochs=np.concatenate([each.epochs for each in parts]),
        pools=np.concatenate([each.pools for each in parts]),
        weights=np.concatenate([each.weights for each in parts]),
    )


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.integers(1, 7),
    st.integers(0, 3),
)
def test_every_pass_shows_each_example_once(sizes: list[int], batch_size: int, seed: int) -> None:
    starts = np.cumsum([0, *sizes])
    groups = [
        Group(indices=range(start, start + size))
        for start, size in zip(starts, sizes, strict=False)
    ]
    found = drawn(order_of(*groups, batch_size=batch_size, seed=seed), 12)
    assert len(found) == 12 * batch_size
    for group in groups:
        mine = np.isin(found.indices, group.indices)
        epochs, indices = found.epochs[mine], found.indices[mine]
        for epoch in range(epochs.max(initial=0)):
            assert sorted(indices[epochs == epoch]) == list(group.indices)
        last = indices[epochs == epochs.max(initial=0)]
        assert len(set(last)) == len(last)


@given(st.lists(st.floats(0.01, 5), min_size=2, max_size=5), st.integers(1, 40), st.integers(0, 90))
def test_every_batch_holds_each_group_by_its_share(
    shares: list[float], batch_size: int, step: int
) -> None:
    groups = [Group(indices=[number], share=share) for number, share in enumerate(shares)]
    found = order_of(*groups, batch_size=batch_size).batch(0, step)
    counts = np.bincount(found.indices, minlength=len(shares))
    wanted = np.array(shares) / sum(shares) * batch_size
    assert np.abs(counts - wanted).max() <= 2.01


def test_a_small_share_is_drawn_in_the_long_run() -> None:
    groups = [Group(indices=[0], share=0.99), Group(indices=[1], share=0.01)]
    found = drawn(order_of(*groups, batch_size=4), 100)
    assert (found.indices == 1).sum() == 4


def test_a_batch_does_not_depend_on_what_was_drawn_before() -> None:
    group = Group(indices=range(30))
    one, other = order_of(group), order_of(group)
    first = [one.batch(0, step).indices.tolist() for step in range(20)]
    again = [other.batch(0, step).indices.tolist() for step in reversed(range(20))]
    assert first == again[::-1]


def test_passes_differ_unless_they_repeat() -> None:
    group = Group(indices=range(16))
    told = drawn(order_of(group, batch_size=16), 2)
    assert told.indices[:16].tolist() != told.indices[16:].tolist()
    again = drawn(order_of(group, batch_size=16, repeats=True), 2)
    assert again.indices[:16].tolist() == again.indices[16:].tolist()
    assert again.epochs.tolist() == [0] * 16 + [1] * 16


@given(st.integers(1, 6), st.integers(1, 60), st.integers(0, 5))
def test_a_window_holds_so_many_places_and_no_more(window: int, size: int, seed: int) -> None:
    places = np.random.default_rng(seed).integers(0, 9, size).astype(np.int32)
    group = Group(indices=range(100, 100 + size), places=places, window=window)
    found = order_of(group, batch_size=size, seed=seed).batch(0, 0).indices - 100
    assert sorted(found) == list(range(size))
    # places leave for good once the window after theirs has begun
    last = {place: n for n, place in enumerate(places[found])}
    for start in range(size):
        open_places = {p for n, p in enumerate(places[found]) if n <= start <= last[p]}
        assert len(open_places) <= window


def test_one_window_is_a_plain_shuffle() -> None:
    places = np.arange(40, dtype=np.int32) // 4
    plain = order_of(Group(indices=range(40)), batch_size=40).batch(0, 0)
    within = order_of(Group(indices=range(40), places=places, window=10), batch_size=40).batch(0, 0)
    assert plain.indices.tolist() == within.indices.tolist()


def test_places_are_gone_through_in_random_order() -> None:
    places = np.arange(64, dtype=np.int32) // 4
    group = Group(indices=range(64), places=places, window=2)
    found = drawn(order_of(group, batch_size=64), 2)
    first, second = (places[part] for part in (found.indices[:64], found.indices[64:]))
    assert first.tolist() != sorted(first)
    assert list(dict.fromkeys(first)) != list(dict.fromkeys(second))


@pytest.mark.parametrize("batch_size", [5, 8])
def test_a_pool_has_its_weight_however_many_examples_it_has(batch_size: int) -> None:
    groups = [
        Group(indices=[0], share=0.3),
        Group(indices=[1], share=0.3),
        Group(indices=[2], share=0.2, pool=7, loss_weight=0.25),
        Group(indices=[3], share=0.2, pool=7, loss_weight=0.25),
    ]
    found = order_of(*groups, batch_size=batch_size).batch(0, 0)
    assert found.pools.tolist() == [7 * int(index >= 2) for index in found.indices]
    assert found.weights[found.pools == 7].sum() == pytest.approx(0.25)
    assert found.weights[found.pools == 0].sum() == pytest.approx(0.75)
    assert all(len(set(found.weights[found.pools == pool])) == 1 for pool in (0, 7))


def test_a_batch_without_a_pool_counts_as_much_as_the_others() -> None:
    groups = [Group(indices=[0], share=0.9), Group(indices=[1], share=0.1, pool=1, loss_weight=0.5)]
    order = order_of(*groups, batch_size=4)
    batches = [order.batch(0, step) for step in range(12)]
    assert {1 in batch.pools for batch in batches} == {True, False}
    assert [batch.weights.sum() for batch in batches] == pytest.approx([1.0] * 12)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ([(0, None), (1, 0.6), (2, 0.4)], "below 1 together"),
        ([(0, None), (1, 0.6), (1, 0.5)], "one loss weight"),
        ([(0, 0.5)], "pool 0"),
        ([(0, None), (1, None)], "every other"),
    ],
)
def test_pools_that_cannot_be_weighed_are_refused(
    told: list[tuple[int, float | None]], reason: str
) -> None:
    groups = [Group(indices=[0], pool=pool, loss_weight=weight) for pool, weight in told]
    with pytest.raises(TaskError, match=reason):
        order_of(*groups)


def test_without_pools_every_example_counts_alike() -> None:
    found = order_of(Group(indices=range(9)), batch_size=8).batch(0, 3)
    assert found.weights.tolist() == [1 / 8] * 8


@given(st.lists(st.floats(0.01, 5), min_size=1, max_size=6), st.integers(0, 50))
def test_shares_become_whole_numbers_that_add_up(shares: list[float], total: int) -> None:
    counts = counts_of(shares, total)
    assert sum(counts) == total
    for count, share in zip(counts, shares, strict=True):
        assert abs(count - share * total / sum(shares)) < 1
