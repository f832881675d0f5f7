import pytest
import torch
from torch import nn

from detector.training.config import DetectorTraining
from detector.training.schedule import build_optimiser, crop_rate, detection_rate, set_rate


def test_published_schedule_warms_up_and_steps_down() -> None:
    training = DetectorTraining()
    rates = [detection_rate(training, step) for step in (0, 250, 500, 48_999, 49_000, 65_000)]
    assert rates == pytest.approx([0.01 / 3, 0.02 / 3, 0.01, 0.01, 0.001, 0.0001])


def test_cosine_ends_near_zero() -> None:
    training = DetectorTraining(schedule="cosine", num_steps=100, warmup_steps=10)
    assert detection_rate(training, 50) == pytest.approx(0.005)
    assert detection_rate(training, 99) < 1e-5


def test_crop_rate_rises_then_falls() -> None:
    rates = [crop_rate(1.0, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) < 1.0
    assert rates.index(max(rates)) == 9
    assert rates[-1] < 0.001


def test_biases_learn_twice_as_fast_and_do_not_decay() -> None:
    model = nn.Linear(2, 2)
    optimiser = build_optimiser(DetectorTraining(), model)
    set_rate(optimiser, 0.5)
    weights, biases = optimiser.param_groups
    assert weights["params"][0] is model.weight
    assert (weights["lr"], weights["weight_decay"]) == (0.5, 1e-4)
    assert biases["params"][0] is model.bias
    assert (biases["lr"], biases["weight_decay"]) == (1.0, 0.0)


def test_frozen_parameters_are_left_out() -> None:
    model = nn.Linear(2, 2)
    model.weight.requires_grad_(False)
    optimiser = build_optimiser(DetectorTraining(optimiser="adamw"), model)
    assert [group["params"] for group in optimiser.param_groups] == [[model.bias]]
    assert isinstance(optimiser, torch.optim.AdamW)


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_a_trained_trunk_may_learn_more_slowly(optimiser: str) -> None:
    model = nn.ModuleDict({"trunk": nn.Linear(2, 2), "box_head": nn.Linear(2, 2)})
    training = DetectorTraining(optimiser=optimiser, trunk_rate_factor=0.1, bias_rate_factor=1.0)
    built = build_optimiser(training, model)
    set_rate(built, 2.0)
    rates = {id(w): group["lr"] for group in built.param_groups for w in group["params"]}
    assert {rates[id(weight)] for weight in model["trunk"].parameters()} == {0.2}
    assert {rates[id(weight)] for weight in model["box_head"].parameters()} == {2.0}
