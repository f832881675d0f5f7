import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detector.training.sampling import (
    generator_for,
    plan_batches,
    repeat_factors,
    sample_balanced,
)


def test_generators_of_the_same_seed_and_purpose_draw_the_same() -> None:
    first = torch.rand(3, generator=generator_for(1, "anchors", 5))
    again = torch.rand(3, generator=generator_for(1, "anchors", 5))
    other = torch.rand(3, generator=generator_for(1, "anchors", 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@given(
    labels=st.lists(st.integers(-1, 3), max_size=60),
    number=st.integers(1, 40),
    fraction=st.sampled_from([0.25, 0.5, 1.0]),
)
def test_sample_keeps_to_its_bounds(labels: list[int], number: int, fraction: float) -> None:
    given_labels = torch.tensor(labels, dtype=torch.int64)
    positive, negative = sample_balanced(
        given_labels, number=number, positive_fraction=fraction, generator=generator_for(0)
    )
    num_positive = sum(label > 0 for label in labels)
    num_negative = sum(label == 0 for label in labels)
    assert len(positive) == min(num_positive, int(number * fraction))
    assert len(negative) == min(num_negative, number - len(positive))
    assert (given_labels[positive] > 0).all()
    assert (given_labels[negative] == 0).all()
    assert positive.tolist() == sorted(set(positive.tolist()))
    assert negative.tolist() == sorted(set(negative.tolist()))


@given(
    shapes=st.lists(st.sampled_from([(3, 4), (4, 3), (4, 4)]), min_size=1, max_size=30),
    size=st.integers(1, 7),
)
def test_an_epoch_shows_every_image_and_never_mixes_aspects(
    shapes: list[tuple[int, int]], size: int
) -> None:
    plan = plan_batches(shapes, images_per_step=size, by_aspect=True, seed=3)
    for epoch in range(2):
        batches = [
            plan.batch(step + epoch * plan.steps_per_epoch) for step in range(plan.steps_per_epoch)
        ]
        assert {index for batch in batches for index in batch} == set(range(len(shapes)))
        for batch in batches:
            assert len(batch) == len(set(batch)) <= size
            assert len({shapes[index][0] >= shapes[index][1] for index in batch}) == 1


def test_a_short_last_batch_is_filled_up() -> None:
    plan = plan_batches([(3, 4)] * 10, images_per_step=4, by_aspect=False, seed=0)
    assert plan.steps_per_epoch == 3
    assert [len(plan.batch(step)) for step in range(3)] == [4, 4, 4]


def test_epochs_differ_and_steps_can_be_asked_for_in_any_order() -> None:
    plan = plan_batches([(3, 4)] * 20, images_per_step=20, by_aspect=True, seed=0)
    late = plan.batch(5)
    assert plan.batch(0) != plan.batch(1)
    assert plan.batch(5) == late


@pytest.mark.parametrize("fraction", [0.0, 0.5])
def test_missing_positives_are_made_up_by_negatives(fraction: float) -> None:
    labels = torch.tensor([1, 0, 0, 0, 0])
    positive, negative = sample_balanced(
        labels, number=4, positive_fraction=fraction, generator=generator_for(0)
    )
    assert len(positive) + len(negative) == 4


def test_images_of_rare_labels_come_oftener() -> None:
    labels = [{1}, {1}, {1}, {1, 2}, set()]
    factors = repeat_factors(labels, below=0.8)
    assert factors == pytest.approx((1.0, 1.0, 1.0, 2.0, 1.0))  # sqrt(0.8 / 0.2)


@given(
    repeats=st.lists(st.floats(1.0, 5.0), min_size=1, max_size=12),
    images_per_step=st.integers(1, 4),
    epoch=st.integers(0, 3),
)
def test_an_epoch_shows_each_image_its_factor_rounded_up_or_down(
    repeats: list[float], images_per_step: int, epoch: int
) -> None:
    plan = plan_batches(
        [(4, 4)] * len(repeats),
        images_per_step=images_per_step,
        by_aspect=False,
        seed=3,
        repeats=tuple(repeats),
    )
    length = max(1, round(sum(repeats)))
    shown: list[int] = []
    for step in range(plan.steps_per_epoch):
        shown += plan.batch(epoch * plan.steps_per_epoch + step)
    scale = length / sum(repeats)
    spare = plan.steps_per_epoch * images_per_step - length  # the last batch is filled up
    for number, factor in enumerate(repeats):
        assert int(factor * scale - 1e-9) <= shown.count(number) <= factor * scale + 1 + spare
    assert length <= len(shown) <= length + spare
