import math

import pytest
import torch

from detector.training.losses import (
    attribute_loss,
    box_loss,
    classifier_loss,
    objectness_loss,
    proposal_box_loss,
    smooth_l1_sum,
)


def test_smooth_l1_is_quadratic_near_zero_and_linear_beyond_beta() -> None:
    assert smooth_l1_sum(torch.tensor([0.05]), 0.1) == pytest.approx(0.5 * 0.05**2 / 0.1)
    assert smooth_l1_sum(torch.tensor([-2.0]), 0.1) == pytest.approx(2.0 - 0.05)
    assert smooth_l1_sum(torch.tensor([1.0, -3.0]), 1.0) == pytest.approx(0.5 + 2.5)


def test_objectness_is_a_mean_over_the_sampled_anchors() -> None:
    loss = objectness_loss(torch.tensor([0.0, 0.0]), torch.tensor([True, False]))
    assert loss == pytest.approx(math.log(2.0))


def test_proposal_boxes_are_divided_by_all_sampled_anchors() -> None:
    one = proposal_box_loss(torch.ones(1, 4), torch.zeros(1, 4), num_sampled=1)
    four = proposal_box_loss(torch.ones(1, 4), torch.zeros(1, 4), num_sampled=4)
    assert one == pytest.approx(4 * (1 - 0.5 / 9))
    assert four == pytest.approx(float(one) / 4)


def test_box_loss_reads_the_four_rows_of_the_true_class_and_counts_background() -> None:
    deltas = torch.zeros(2, 12)
    deltas[0, 8:12] = 2.0
    deltas[1] = 9.0
    loss = box_loss(deltas, torch.tensor([2, 0]), torch.zeros(2, 4))
    assert loss == pytest.approx(4 * 1.5 / 2)


def test_agnostic_box_loss_reads_the_last_four_rows() -> None:
    deltas = torch.zeros(1, 8)
    deltas[0, :4] = 9.0
    assert box_loss(deltas, torch.tensor([7]), torch.zeros(1, 4)) == 0.0


def test_attribute_loss_counts_regions_without_attributes_in_the_mean() -> None:
    targets = torch.tensor([[0.0, 0.5, 0.5], [0.0, 0.0, 0.0]])
    loss = attribute_loss(torch.zeros(2, 3), targets, weight=0.5)
    assert loss == pytest.approx(0.5 * math.log(3.0) / 2)


def test_losses_of_nothing_are_zero_and_carry_a_gradient() -> None:
    weights = torch.ones(1, requires_grad=True)
    nothing = torch.zeros(0, 4) * weights
    total = (
        objectness_loss(nothing[:, 0], torch.zeros(0, dtype=torch.bool))
        + proposal_box_loss(nothing, torch.zeros(0, 4), 0)
        + classifier_loss(nothing, torch.zeros(0, dtype=torch.int64))
        + box_loss(nothing.repeat(1, 3), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4))
        + attribute_loss(nothing, torch.zeros(0, 4), 0.5)
    )
    total.backward()
    assert total == 0.0
    assert weights.grad == 0.0
