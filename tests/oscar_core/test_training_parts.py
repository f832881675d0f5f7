"""Schedule, optimiser, order, controls, standardised inputs: each against its rule."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from oscar_core.controls import swapped_images
from oscar_core.encoder import OscarEncoder
from oscar_core.errors import ModelConfigError, TaskError, TrainingError
from oscar_core.task import load_task, task_names
from oscar_core.training.config import TrainingConfig
from oscar_core.training.optimiser import build_optimiser
from oscar_core.training.schedule import rate_factor
from oscar_core.training.standardise import fold, measure_spread, standardise
from oscar_core.training.together import join, merged
from tests.builders_library import TINY


def factors(num_steps: int, **changes: object) -> list[float]:
    config = TrainingConfig(steps=num_steps, **changes)
    return [rate_factor(config, step, num_steps) for step in range(num_steps)]


def test_linear_uses_the_full_rate_first_and_never_zero() -> None:
    assert factors(4) == [1.0, 0.75, 0.5, 0.25]


def test_linear_warms_up_by_steps_or_by_share() -> None:
    assert factors(6, warmup=2.0) == [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]
    assert factors(6, warmup=1 / 3) == factors(6, warmup=2.0)


def test_constant_stays() -> None:
    assert factors(3, schedule="constant") == [1.0, 1.0, 1.0]


def test_hold_stays_then_falls_to_the_floor() -> None:
    assert factors(5, schedule="hold", hold=0.4, floor=0.25) == pytest.approx(
        [1.0, 1.0, 1.0, 0.75, 0.5]
    )


def test_epochs_decide_the_steps_unless_they_are_given() -> None:
    assert TrainingConfig(epochs=3, batch_size=4).num_steps(10) == 8
    assert TrainingConfig(steps=5).num_steps(10) == 5


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"learning_rate": 0.0}, {"steps": 0}, {"hold": 1.5}]
)
def test_settings_that_cannot_be_trained_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ModelConfigError):
        TrainingConfig(**wrong)


def test_adamw_follows_the_old_librarys_formula() -> None:
    layer = nn.Linear(1, 1)
    with torch.no_grad():
        layer.weight.fill_(2.0)
        layer.bias.fill_(1.0)
    config = TrainingConfig(learning_rate=0.1, weight_decay=0.5, adam_epsilon=0.01)
    optimiser = build_optimiser(layer, config)
    mean, square, weight = 0.0, 0.0, 2.0
    for step, gradient in enumerate((0.3, -0.2), start=1):
        layer.weight.grad = torch.tensor([[gradient]])
        layer.bias.grad = None
        optimiser.step()
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        rate = 0.1 * math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        weight -= rate * mean / (math.sqrt(square) + 0.01)
        weight -= 0.1 * 0.5 * weight
    assert layer.weight.item() == pytest.approx(weight, abs=1e-6)
    assert layer.bias.item() == 1.0


def test_vectors_do_not_decay() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    decayed, kept = build_optimiser(model, TrainingConfig()).param_groups
    assert [p.dim() for p in decayed["params"]] == [2]
    assert [p.dim() for p in kept["params"]] == [1, 1, 1]
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.05, 0.0)


@given(st.sets(st.text("abc/0", min_size=1, max_size=5), min_size=2), st.integers(0, 5))
def test_no_image_is_its_own_control_and_each_is_used_once(names: set[str], seed: int) -> None:
    others = swapped_images(sorted(names), seed)
    assert set(others) == set(others.values()) == names
    assert all(name != other for name, other in others.items())


def test_a_control_needs_another_image() -> None:
    with pytest.raises(TaskError):
        swapped_images(["a", "a"], 0)


def some_regions() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    plain = rng.normal(3, [0.1, 2, 5, 1, 0], size=(40, 5)).astype(np.float32)
    return [plain[:7], plain[7:30], plain[30:]]


def test_spread_is_that_of_all_regions_together() -> None:
    spread = measure_spread(some_regions())
    together = np.concatenate(some_regions())
    assert np.allclose(spread.mean, together.mean(axis=0), atol=1e-5)
    assert np.allclose(spread.deviation[:4], together.std(axis=0)[:4], rtol=1e-4)
    assert spread.deviation[4] == 1.0  # never varies


@pytest.mark.parametrize("is_new", [True, False])
def test_folding_changes_no_output(is_new: bool) -> None:
    torch.manual_seed(0)
    encoder = OscarEncoder(TINY.for_input(vocabulary_size=6, region_feature_dim=5))
    regions = torch.from_numpy(np.stack([rows[:7] for rows in some_regions()]))
    before = encoder.embed_regions(regions)
    standardise(encoder, measure_spread(some_regions()), is_new=is_new)
    standardised = encoder.embed_regions(regions)
    assert torch.allclose(standardised, before, atol=1e-4) == (not is_new)
    fold(encoder)
    assert torch.allclose(encoder.embed_regions(regions), standardised, atol=1e-4)
    assert sorted(name for name, _ in encoder.named_parameters() if "projection" in name) == [
        "region_projection.bias",
        "region_projection.weight",
    ]


def test_losses_are_means_over_the_parts_that_have_them() -> None:
    shares = [
        {"total": (0.5, 0.25), "words": (0.3, 0.25)},
        {"total": (3.0, 0.75), "match": (0.6, 0.75)},
    ]
    assert merged(shares) == pytest.approx({"total": 3.5, "words": 1.2, "match": 0.8})


def test_losses_that_weigh_nothing_are_left_out() -> None:
    assert merged([{"total": (1.0, 0.5), "words": (0.0, 0.0)}, {"total": (1.0, 0.5)}]) == {
        "total": 2.0
    }
    assert merged([{"total": (0.0, 0.0)}]) == {"total": 0.0}


def test_one_process_shares_with_nobody() -> None:
    alone = join()
    assert (alone.num, alone.number, alone.writes) == (1, 0, True)
    assert alone.exchange({"loss": (1.0, 2.0)}) == [{"loss": (1.0, 2.0)}]
    assert [alone.agree(True), alone.agree(False)] == [True, False]


def test_a_process_that_torchrun_did_not_join_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trap: without accelerator and without being told so, each one trains alone."""
    join()  # accelerate decides once a process
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="1 processes train together, torchrun started 2"):
        join()


def test_every_folder_of_tasks_is_a_task_of_its_name() -> None:
    assert {"pretraining", "captioning", "retrieval", "vqa"} <= set(task_names())
    assert all(load_task(name).name == name for name in task_names())


def test_an_unknown_task_names_the_known_ones() -> None:
    with pytest.raises(TaskError, match="choose one of captioning"):
        load_task("dancing")
