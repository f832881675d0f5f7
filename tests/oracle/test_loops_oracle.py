"""Recorded pretraining and captioning updates against our training loop.

Every case of `models/models.json` of kind `loop` or `caption_loop` goes through
`oscar_core.training.loop.train`: weights of the data sets, accumulation, cutting, rates, updates.
Tolerances: specs/oscar.md 12; 5e-6 for losses, 1e-4 for weights after updates, and as much as the
rates add up to for the keys' biases, whose gradient is rounding noise.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from oscar_core.caption_packing import CaptionBatch
from oscar_core.compat import TrainingCompat
from oscar_core.published.bert_names import our_name, to_published
from oscar_core.task import Losses
from oscar_core.tasks.captioning.collate import Batch as CaptioningBatch
from oscar_core.tasks.captioning.records import Config as CaptioningConfig
from oscar_core.tasks.captioning.train import losses as captioning_losses
from oscar_core.tasks.pretraining.collate import Batch, Rows
from oscar_core.tasks.pretraining.records import Config
from oscar_core.tasks.pretraining.train import losses as pretraining_losses
from oscar_core.training.config import TrainingConfig
from oscar_core.training.optimiser import build_optimiser
from oscar_core.training.schedule import rate_factor
from tests.oracle.oscar_cases import (
    ORIGINAL_LOSSES,
    batch_of,
    check_close,
    loaded,
    of_kind,
    part,
    stored,
    weights,
)
from tests.oracle.recorded_training import Course, batch_size, learn, scaled_losses

pytestmark = pytest.mark.oracle
VALUES = 5e-6
WEIGHTS = 1e-4
NOISE = "attention.self.key.bias"
SETS = ("main", "extra")
FINE_TUNING = TrainingCompat(
    schedules_before_update=True, clips_every_part=True, counts_calls=True
)  # Q5, Q6, Q8


def training_of(case: Mapping[str, Any], num_sets: int, compat: TrainingCompat) -> TrainingConfig:
    loop = case["loop"]
    return TrainingConfig(
        steps=loop["t_total"],
        batch_size=batch_size(num_sets, loop["gradient_accumulation_steps"]),
        accumulation=loop["gradient_accumulation_steps"],
        learning_rate=loop["learning_rate"],
        schedule=loop.get("scheduler", "linear"),
        warmup=float(loop["warmup_steps"]),
        betas=tuple(loop.get("betas", (0.9, 0.999))),
        adam_epsilon=loop["adam_eps"],
        weight_decay=loop["weight_decay"],
        max_gradient_norm=max(0.0, loop["max_grad_norm"]),
        checkpoint_every=0,
        compat=compat,
    )


def check_decay(model: nn.Module, training: TrainingConfig, case: Mapping[str, Any]) -> None:
    """What is decayed, the original tells by name, we by dimensions; both must agree."""
    names = {id(each): name for name, each in model.named_parameters()}
    groups = build_optimiser(model, training).param_groups
    decayed = {names[id(p)] for g in groups if g["weight_decay"] > 0 for p in g["params"]}
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert decayed == {our_name(name) for name in case["decay_params"]} - frozen


def go_through(
    case: Mapping[str, Any],
    course: Course,
    training: TrainingConfig,
    model: nn.Module,
    folder: Path,
) -> None:
    """Train, and compare weights, rates and losses of every update."""
    loop, checked = case["loop"], []
    rates = [
        loop["learning_rate"] * rate_factor(training, k, loop["t_total"])
        for k in range(loop["updates"])
    ]

    def after(step: int) -> None:
        expected = part(stored(case), f"after{step}/")
        check_weights(model, expected, sum(rates[:step]), case.get("tied", {}))
        checked.append(len(expected))

    check_decay(model, training, case)
    learn(course, training, model, folder, updates=loop["updates"], after=after)
    assert len(checked) == loop["updates"]
    assert checked[-1] > 0
    told = [log["lr_used"] for log in case["log"] if "lr_used" in log]
    assert rates == pytest.approx(told, abs=1e-12)
    rows = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    assert [row["learning_rate"] for row in rows] == pytest.approx(told, rel=1e-5, abs=1e-12)
    parts = training.accumulation
    scaled = scaled_losses(course, parts)
    of_updates = [sum(scaled[at : at + parts]) for at in range(0, len(scaled), parts)]
    assert [each.total for each in course.reports] == pytest.approx(of_updates, abs=VALUES)


def check_weights(
    model: nn.Module, expected: dict[str, Tensor], rates: float, tied: Mapping[str, str]
) -> None:
    found = to_published(model.state_dict())
    for name, weight in expected.items():
        tolerance = WEIGHTS + (2 * rates if name.endswith(NOISE) else 0.0)
        check_close(found[tied.get(name, name)], weight, tolerance, name)


def judge_pretraining(model: Any, config: Config, batch: Batch, number: int) -> Losses:
    return pretraining_losses(config, model, batch, number)


def pretraining_batch(inputs: Mapping[str, Tensor], width: int) -> Batch:
    packed = batch_of(inputs, width)
    num = len(packed)
    rows = Rows(
        packed=packed,
        word_labels=inputs["masked_lm_labels"].reshape(num, -1).long(),
        match_labels=inputs["next_sentence_label"].flatten().long(),
        region_words=torch.full((num, packed.region_features.shape[1], 1), -1),
        origins=(("", "", ""),) * num,
    )
    return Batch(rows=(rows,))


@pytest.mark.parametrize("case", of_kind("loop"))
def test_pretraining_updates_as_recorded(case: Mapping[str, Any], tmp_path: Path) -> None:
    loop, log, width = case["loop"], case["log"], case["config"]["img_feature_dim"]
    names = [name for name in SETS if name in log[0]]
    steps = [
        [pretraining_batch(part(stored(case), f"step{step}/{name}/in/"), width) for name in names]
        for step in range(len(log))
    ]
    settings = Config(loss_compat=ORIGINAL_LOSSES)
    extra = loop.get("extra_loss_weight") or 0.0
    course = Course(steps=steps, extra=extra, judge=judge_pretraining, sets=[settings] * len(names))
    training = training_of(case, len(names), TrainingCompat())
    model = loaded(case["class"], case["config"], weights(case))
    go_through(case, course, training, model, tmp_path)
    learned = loop["updates"] * training.accumulation
    assert len(course.found) == learned * len(names)
    for (step, number), found in course.found.items():
        told = log[step][names[number]]
        share = course.shares[number]
        assert share == pytest.approx(told["weight"])
        raw = float(found.total.detach())
        pair = [raw, float(found.parts["words"]), raw * share / training.accumulation]
        expected = [told[key] for key in ("raw_loss", "masked_lm_loss", "scaled_loss")]
        assert pair == pytest.approx(expected, abs=2 * VALUES)
    norms = [each["grad_norm_before_clip"] for each in log if "grad_norm_before_clip" in each]
    assert course.norms == pytest.approx(norms, rel=1e-5)


def judge_captions(
    model: Any, config: CaptioningConfig, batch: CaptioningBatch, number: int
) -> Losses:
    return captioning_losses(config, model, batch, number)


def captioning_batch(inputs: Mapping[str, Tensor], width: int) -> CaptioningBatch:
    packed = batch_of(inputs, width)
    captions = CaptionBatch(
        packed=packed,
        caption_slots=inputs["masked_pos"].shape[-1],
        masked=inputs["masked_pos"].bool(),
        masked_ids=inputs["masked_ids"].long(),
    )
    return CaptioningBatch(captions=captions, image_ids=("",) * len(packed))


@pytest.mark.parametrize("case", of_kind("caption_loop"))
def test_caption_updates_as_recorded(case: Mapping[str, Any], tmp_path: Path) -> None:
    """Clip at every call (Q6), rate of the next update (Q5), calls counted (Q8)."""
    log, config = case["log"], case["config"]
    settings = CaptioningConfig(
        label_smoothing=config.get("label_smoothing") or 0.0,
        drop_worst_ratio=config.get("drop_worst_ratio") or 0.0,
        drop_worst_after=config.get("drop_worst_after") or 0,
        loss_compat=ORIGINAL_LOSSES,
    )
    width = config["img_feature_dim"]
    steps = [
        [captioning_batch(part(stored(case), f"step{step}/in/"), width)] for step in range(len(log))
    ]
    course = Course(steps=steps, extra=0.0, judge=judge_captions, sets=[settings])
    training = training_of(case, 1, FINE_TUNING)
    model = loaded(case["class"], config, weights(case))
    go_through(case, course, training, model, tmp_path)
    parts = training.accumulation
    learned = case["loop"]["updates"] * parts
    found = [float(course.found[step, 0].total.detach()) for step in range(learned)]
    assert found == pytest.approx([each["raw_loss"] for each in log[:learned]], abs=2 * VALUES)
    # after the parts of an update the norm is looked at once more, for the log
    cut = [norm for n, norm in enumerate(course.norms) if (n + 1) % (parts + 1)]
    told = [each["grad_norm_before_clip"] for each in log[:learned]]
    assert cut == pytest.approx(told, rel=1e-5)
