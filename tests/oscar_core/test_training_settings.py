"""Precision, moving average, trackers, bad batches: what a training may be asked for."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from oscar_core.compat import TrainingCompat
from oscar_core.errors import ModelConfigError, TrainingError
from oscar_core.heads import AnswerHead
from oscar_core.models import PairModel
from oscar_core.tasks.captioning.records import Config as CaptionConfig
from oscar_core.tasks.pretraining.records import Config as PretrainingConfig
from oscar_core.tasks.vqa.records import Config as VqaConfig
from oscar_core.training.averaging import Counted, factors
from oscar_core.training.checkpoints import checkpoint_paths
from oscar_core.training.config import TrainingConfig
from oscar_core.training.learner import MovingAverage, new_learner
from oscar_core.training.loop import TrainSummary, seed_update, update_weights
from oscar_core.training.optimiser import build_optimiser
from oscar_core.training.precision import LossScale
from oscar_core.training.tensor_file import write_tensors
from oscar_core.training.together import Together, join
from oscar_core.training.tracking import check_trackers
from oscar_core.views import ViewSettings
from tests.builders_library import TINY, tiny_training
from tests.oscar_core.test_training_loop import KilledError, bytes_of, run

VQA = VqaConfig(loss="cross_entropy", min_questions=1)


def learn(folder: Path, kill_at: int = 0, **changes: Any) -> TrainSummary:
    training = tiny_training(**changes)
    how = {"task": "vqa", "settings": VQA, "encoder": TINY}
    return run(folder, training=training, kill_at=kill_at, **how)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model/model.safetensors")


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_fewer_bits_learn_nearly_the_same(tmp_path: Path, precision: str) -> None:
    learn(tmp_path / "whole")
    learn(tmp_path / "fewer", precision=precision)
    for whole, fewer in zip(rows_of(tmp_path / "whole"), rows_of(tmp_path / "fewer"), strict=True):
        assert fewer["total"] == pytest.approx(whole["total"], rel=0.1)
    assert bytes_of(tmp_path / "whole") != bytes_of(tmp_path / "fewer")
    assert all(value.dtype == torch.float32 for value in weights_of(tmp_path / "fewer").values())


@pytest.mark.parametrize("changes", [{"precision": "fp16"}, {"ema": 0.9}])
def test_killed_it_goes_on_with_all_it_remembers(tmp_path: Path, changes: dict[str, Any]) -> None:
    learn(tmp_path / "unbroken", **changes)
    with pytest.raises(KilledError):
        learn(tmp_path / "broken", kill_at=5, **changes)
    assert learn(tmp_path / "broken", **changes).resumed_at == 4
    assert bytes_of(tmp_path / "broken") == bytes_of(tmp_path / "unbroken")


def test_a_loss_scale_halves_at_an_overflow_and_doubles_after_many_good_updates() -> None:
    scale = LossScale("fp16")
    scale.learn(is_finite=False)
    assert scale.value == LossScale.FIRST / 2
    for _ in range(LossScale.GROWTH_STEPS):
        scale.learn(is_finite=True)
    assert scale.value == LossScale.FIRST
    again = LossScale("fp16")
    again.restore(scale.state())
    assert (again.value, again.num_good) == (scale.value, 0)
    plain = LossScale("bf16")
    plain.learn(is_finite=False)
    assert plain.value == 1.0


def test_gradients_that_overflow_at_any_scale_end_the_training(tmp_path: Path) -> None:
    def settings(steps: int) -> dict[str, Any]:
        return {"precision": "fp16", "learning_rate": 1e-12, "steps": steps, "checkpoint_every": 0}

    class Endless(torch.autograd.Function):
        """Leaves what it reads and has no finite gradient."""

        @staticmethod
        def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
            return value.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return torch.full_like(gradient, torch.inf)

    hook = nn.modules.module.register_module_forward_hook(
        lambda module, given, found: Endless.apply(found) if isinstance(module, nn.Linear) else None
    )
    try:
        with pytest.raises(TrainingError, match="update 18: the gradients are not finite"):
            learn(tmp_path, **settings(40))  # 65536 is halved 17 times first
    finally:
        hook.remove()


def test_an_average_follows_the_weights() -> None:
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    average = MovingAverage(model, 0.75)
    for value in (5.0, 9.0):  # 1 -> 2 -> 3.75
        model.weight.data.fill_(value)
        average.follow(model)
    average.replace_weights(model)
    assert model.weight.item() == pytest.approx(3.75)


def test_the_stored_model_has_the_average_if_asked(tmp_path: Path) -> None:
    learn(tmp_path / "plain")
    learn(tmp_path / "kept", ema=0.5, writes_ema=False)
    learn(tmp_path / "written", ema=0.5)
    assert bytes_of(tmp_path / "plain") == bytes_of(tmp_path / "kept")
    assert bytes_of(tmp_path / "plain") != bytes_of(tmp_path / "written")
    assert rows_of(tmp_path / "plain") == rows_of(tmp_path / "written")


def test_less_memory_for_the_same_weights(tmp_path: Path) -> None:
    learn(tmp_path / "plain")
    learn(tmp_path / "twice", gradient_checkpointing=True)
    plain, twice = weights_of(tmp_path / "plain"), weights_of(tmp_path / "twice")
    assert all(value.allclose(twice[name], atol=1e-6) for name, value in plain.items())


def test_tensorboard_shows_every_update_once_after_a_kill(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with pytest.raises(KilledError):
        learn(tmp_path, kill_at=5, trackers=("tensorboard",))
    learn(tmp_path, trackers=("tensorboard",))
    shown = EventAccumulator(str(tmp_path / "tensorboard"))
    shown.Reload()
    totals = shown.Scalars("total")
    assert [each.step for each in totals] == [1, 2, 3, 4, 5, 6]
    told = [row["total"] for row in rows_of(tmp_path)]
    assert [each.value for each in totals] == pytest.approx(told, abs=1e-5)
    assert len(shown.Scalars("gradient_norm")) == 6


def test_a_tracker_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(TrainingError, match="pip install wandb"):
        check_trackers(["tensorboard", "wandb"])


def test_a_batch_without_a_loss_is_kept_with_the_weights_before_it(tmp_path: Path) -> None:
    how = {"learning_rate": 1e30, "max_gradient_norm": 0, "checkpoint_every": 0}
    with pytest.raises(TrainingError, match=r"nan-batch-\d{7}\.json beside the losses") as told:
        learn(tmp_path, **how)
    (path,) = tmp_path.glob("nan-batch-*.json")
    assert path.name in str(told.value)
    said = json.loads(path.read_text())
    (part,) = said["parts"]
    assert len(part["examples"]) == 8
    assert {"index", "question_id", "image_id", "question"} <= set(part["examples"][0])
    tensors = load_file(path.with_suffix(".safetensors"))
    assert tensors["part0.packed.input_ids"].shape[0] == 8
    (checkpoint,) = checkpoint_paths(tmp_path / "checkpoints")
    assert int(checkpoint.stem.split("-")[1]) == said["update"] - 1
    assert len(rows_of(tmp_path)) == said["update"] - 1


def test_objectives_count_by_what_they_are_a_mean_over() -> None:
    def part(pool: int, weight: float, words: int) -> Counted:
        return Counted(pool=pool, weight=weight, targets={"words": words})

    own = [part(0, 0.4, 3), part(1, 0.2, 0)]
    found = factors(own, [*own, part(0, 0.4, 1)])
    assert found == [{"words": pytest.approx(0.8 * 3 / 4)}, {"words": 0.0}]


def test_a_pool_keeps_its_weight_where_its_examples_weigh_as_those_of_another() -> None:
    own = [Counted(pool=pool, weight=0.5, targets={"words": (30, 10)[pool]}) for pool in (0, 1)]
    assert factors(own, own) == [{"words": 0.5}, {"words": 0.5}]


def test_a_batch_without_masked_words_is_learned_from(tmp_path: Path) -> None:
    settings = PretrainingConfig(view=ViewSettings(max_regions=4), mask_probability=0.1)
    training = tiny_training(steps=12, batch_size=1, averaging="batch", checkpoint_every=0)
    run(tmp_path, task="pretraining", settings=settings, encoder=TINY, training=training)
    assert {"words" in row for row in rows_of(tmp_path)} == {True, False}
    assert all("total" in row for row in rows_of(tmp_path))


@pytest.mark.parametrize(
    ("quirk", "expected"),
    [
        ({}, [1.0, 0.75, 0.5, 0.25]),
        ({"schedules_before_update": True}, [0.75, 0.5, 0.25, 0.0]),
    ],
)
def test_q5_the_rate_of_the_next_update(
    tmp_path: Path, quirk: dict[str, bool], expected: list[float]
) -> None:
    learn(
        tmp_path, steps=4, schedule="linear", learning_rate=1.0e-3, compat=TrainingCompat(**quirk)
    )
    found = [row["learning_rate"] for row in rows_of(tmp_path)]
    assert found == pytest.approx([1e-3 * each for each in expected])


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_q6_clips_every_part(tmp_path: Path, precision: str) -> None:
    how = {"steps": 1, "accumulation": 4, "max_gradient_norm": 0.01, "precision": precision}
    learn(tmp_path / "ours", **how)
    learn(tmp_path / "theirs", compat=TrainingCompat(clips_every_part=True), **how)
    norms = [rows_of(tmp_path / name)[0]["gradient_norm"] for name in ("ours", "theirs")]
    assert norms[0] > 0.1
    assert norms[1] == pytest.approx(0.01, rel=0.01)  # was clipped before it was measured


@pytest.mark.parametrize(("counts_calls", "first"), [(False, 4), (True, 2)])
def test_q8_words_are_dropped_after_updates_or_calls(
    tmp_path: Path, counts_calls: bool, first: int
) -> None:
    never = CaptionConfig(
        max_text=30, max_text_a=20, max_masked=8, mask_probability=0.9, drop_worst_ratio=0.0
    )
    later = replace(never, drop_worst_ratio=0.5, drop_worst_after=3)  # after 3 updates or calls
    training = tiny_training(
        steps=5,
        accumulation=2,
        learning_rate=1e-12,
        compat=TrainingCompat(counts_calls=counts_calls),
    )
    for name, settings in (("never", never), ("later", later)):
        how = {"task": "captioning", "settings": settings, "encoder": TINY}
        run(tmp_path / name, training=training, **how)
    both = zip(rows_of(tmp_path / "never"), rows_of(tmp_path / "later"), strict=True)
    changed = [one["step"] for one, other in both if one["total"] != other["total"]]
    assert changed == list(range(first, 6))


def test_q9_every_pass_has_the_order_of_the_first(tmp_path: Path) -> None:
    how = {"steps": 9, "batch_size": 12, "learning_rate": 1e-12}  # 36 questions
    for name, repeats in (("ours", False), ("theirs", True)):
        learn(tmp_path / name, compat=TrainingCompat(repeats_order=repeats), **how)
    totals = {
        name: np.array([row["total"] for row in rows_of(tmp_path / name)]).reshape(3, 3)
        for name in ("ours", "theirs")
    }
    assert np.ptp(totals["theirs"], axis=0).max() < 1e-4
    assert np.ptp(totals["ours"], axis=0).max() > 1e-3


@pytest.mark.parametrize("is_quirk", [False, True])
def test_q16_the_norm_inside_a_classifier(is_quirk: bool) -> None:
    config = TINY.for_input(vocabulary_size=20, region_feature_dim=12)
    model = PairModel(config, AnswerHead(num_labels=2, kind="mlp"))
    norm = model.classifier[2]
    assert isinstance(norm, nn.LayerNorm)
    training = TrainingConfig(compat=TrainingCompat(decays_head_norm=is_quirk))
    decayed, _ = build_optimiser(model, training).param_groups
    vectors = [each for each in decayed["params"] if each.dim() == 1]
    assert [each is norm.weight for each in vectors] == ([True] if is_quirk else [])


@pytest.mark.parametrize("is_quirk", [False, True])
def test_q25_processes_drop_alike_or_not(is_quirk: bool) -> None:
    training = TrainingConfig(compat=TrainingCompat(shares_dropout=is_quirk))
    together, seeds = Together(join().accelerator), set()
    for together.number in (0, 1):
        seed_update(training, together, 5, 0)
        seeds.add(torch.initial_seed())
    assert len(seeds) == (1 if is_quirk else 2)


@pytest.mark.parametrize("is_quirk", [False, True])
def test_q34_what_an_update_does_not_use(is_quirk: bool) -> None:
    model = nn.Linear(1, 1)
    training = TrainingConfig(compat=TrainingCompat(keeps_zero_gradients=is_quirk))
    learner = new_learner(model, training)
    model(torch.ones(1, 1)).sum().backward()
    update_weights(training, learner, is_finite=True)
    before = model.bias.item()
    (model.weight * 2).sum().backward()  # the bias is not used
    update_weights(training, learner, is_finite=True)
    assert (model.bias.item() != before) == is_quirk


def test_q24_a_resumed_training_sees_the_first_examples_again(tmp_path: Path) -> None:
    how = {"learning_rate": 1e-12}
    for name, replays in (("ours", False), ("theirs", True)):
        how["compat"] = TrainingCompat(replays_when_resumed=replays)
        with pytest.raises(KilledError):
            learn(tmp_path / name, kill_at=5, **how)
        learn(tmp_path / name, **how)
    first, ours, theirs = (
        [row["total"] for row in rows_of(tmp_path / name)][part]
        for name, part in (("ours", slice(2)), ("ours", slice(4, 6)), ("theirs", slice(4, 6)))
    )
    assert theirs == pytest.approx(first, abs=1e-4)
    assert ours != pytest.approx(first, abs=1e-3)


def test_q36_goes_on_to_the_end_of_the_pass() -> None:
    def steps(**switches: bool) -> int:
        config = TrainingConfig(steps=7, batch_size=10, compat=TrainingCompat(**switches))
        return config.num_steps(45)  # 5 batches a pass

    assert (steps(), steps(overshoots_steps=True)) == (7, 10)
    assert TrainingConfig(steps=7).scheduled_steps(45) == 7


def test_wrong_settings_are_refused() -> None:
    for wrong in ({"ema": 1.0}, {"keep_last": 0}, {"workers": -1}):
        with pytest.raises(ModelConfigError, match=next(iter(wrong))):
            TrainingConfig(**wrong)


def test_gradients_are_cut_to_their_norm_and_lose_the_scale_of_the_loss() -> None:
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.grad = torch.tensor([[3.0, 4.0]]) * 8
    assert join().scale_gradients(layer.parameters(), 2.5, scale=8.0) == pytest.approx(5.0)
    assert layer.weight.grad.tolist() == [pytest.approx([1.5, 2.0], rel=1e-5)]
    layer.weight.grad = torch.tensor([[float("inf"), 1.0]])
    assert join().scale_gradients(layer.parameters(), 2.5) == float("inf")


def test_tensors_are_read_as_they_were_written(tmp_path: Path) -> None:
    kinds = [torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.uint8]
    told = {str(kind): torch.arange(7).to(kind) for kind in kinds}
    told |= {"none": torch.zeros(0, 3), "one": torch.tensor(4.0)}
    write_tensors(tmp_path / "x.safetensors", told, {"who": "we"})
    found = load_file(tmp_path / "x.safetensors")
    assert set(found) == set(told)
    assert all(torch.equal(found[name], value) for name, value in told.items())
    with safe_open(tmp_path / "x.safetensors", framework="pt") as stream:
        assert stream.metadata() == {"who": "we"}
