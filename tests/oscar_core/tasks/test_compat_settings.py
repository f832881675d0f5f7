"""Quirks of the original are switched on in a task's settings, and reach what has them."""

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch

from flows.typed import build
from flows.yaml_tree import Tree
from oscar_core.compat import GenerationCompat, LossCompat, PackingCompat, SampleCompat
from oscar_core.models import CaptionModel, ClassifierModel
from oscar_core.task import Knowledge, load_task
from oscar_core.tasks.captioning.records import Config as CaptioningConfig
from oscar_core.tasks.pretraining.records import Config as PretrainingConfig
from oscar_core.tasks.retrieval.records import Config as RetrievalConfig
from oscar_core.tasks.vqa.records import Config as VqaConfig
from oscar_core.tokens import Tokenizer, build_vocabulary
from oscar_core.training.config import TrainingConfig
from oscar_core.views import ViewSettings
from tests.builders_core import make_config, seeded
from tests.builders_library import make_library

LIBRARY = make_library()
VIEW = ViewSettings(max_regions=4)
CAPTIONS = CaptioningConfig(
    view=VIEW,
    max_text=24,
    max_text_a=18,
    mask_probability=1.0,
    max_masked=18,
    max_length=12,
    num_beams=3,
    freezes_embedding=False,
)


class Made:
    """A task with new weights and some of its examples."""

    def __init__(self, task: str, config: Any, *, num: int = 4, seed: int = 1) -> None:
        self.task, self.config = load_task(task), config
        tokenizer = Tokenizer(build_vocabulary(self.task.texts(config, LIBRARY)))
        self.knowledge = Knowledge(tokenizer=tokenizer, answers=self.task.answers(config, LIBRARY))
        self.examples = [self.task.examples(config, LIBRARY, "train")[i] for i in range(num)]
        width = self.examples[0].view.regions.shape[1] if task != "retrieval" else 8
        seeded(seed)
        sizes = make_config(
            vocabulary_size=len(tokenizer),
            region_feature_dim=width,
            max_positions=40,
            initializer_range=0.8,
        )
        self.model = self.task.build_model(config, self.knowledge, sizes).eval()

    def batch(self, config: Any) -> Any:
        dice = [np.random.default_rng(i) for i in range(len(self.examples))]
        return self.task.collate(config, self.knowledge, self.examples, dice)

    def loss(self, config: Any) -> float:
        losses = self.task.losses(config, self.model, self.batch(config), 1)
        return float(losses.total.detach())


def test_a_batch_without_masked_words_gives_nan_in_pretraining() -> None:
    ours = PretrainingConfig(view=VIEW, mask_probability=0.0)
    made = Made("pretraining", ours)
    theirs = replace(ours, loss_compat=LossCompat(gives_nan_without_masks=True))
    assert math.isfinite(made.loss(ours))
    assert math.isnan(made.loss(theirs))


def test_captioning_may_leave_out_every_word() -> None:
    ours = replace(
        CAPTIONS, max_masked=1, drop_worst_ratio=0.9, drop_worst_after=0, label_smoothing=0.0
    )
    made = Made("captioning", ours, num=2)
    theirs = replace(ours, loss_compat=LossCompat(may_drop_every_word=True))
    assert math.isfinite(made.loss(ours))
    assert math.isnan(made.loss(theirs))


def test_captioning_shortens_masked_ids() -> None:
    made = Made("captioning", CAPTIONS, num=1)
    theirs = replace(CAPTIONS, packing_compat=PackingCompat(shortens_masked_ids=True))
    widths = [made.batch(each).captions.masked_ids.shape[1] for each in (CAPTIONS, theirs)]
    assert widths == [18, 17]


def test_captioning_draws_one_past_the_vocabulary() -> None:
    """The same dice fall into one more number, so some of many replacements differ."""
    made = Made("captioning", CAPTIONS, num=12)
    theirs = replace(CAPTIONS, packing_compat=PackingCompat(draws_one_past_vocabulary=True))
    ids = [made.batch(each).captions.packed.input_ids for each in (CAPTIONS, theirs)]
    assert ids[0].shape == ids[1].shape
    assert not torch.equal(ids[0], ids[1])


def test_captions_are_searched_with_the_old_memory_order() -> None:
    theirs = replace(CAPTIONS, generation_compat=GenerationCompat(keeps_memory_order=True))
    differs = False
    for seed in range(8):
        made = Made("captioning", CAPTIONS, num=6, seed=seed)
        assert isinstance(made.model, CaptionModel)
        prompts = made.task.collate(CAPTIONS, made.knowledge, made.examples, None)
        found = [
            made.task.predict(each, made.knowledge, made.model, prompts)
            for each in (CAPTIONS, theirs)
        ]
        differs |= found[0] != found[1]
    assert differs


def test_the_divergence_of_vqa_is_over_all_answers_or_over_3129() -> None:
    ours = VqaConfig(view=VIEW, min_questions=1, loss="kl")
    made = Made("vqa", ours)
    assert isinstance(made.model, ClassifierModel)
    batch = made.batch(ours)
    told = made.model(batch.packed).log_softmax(dim=1)
    shares = batch.targets
    expected = (torch.special.xlogy(shares, shares) - shares * told).sum() / len(shares)
    assert made.loss(ours) == pytest.approx(float(expected.detach()), abs=1e-5)
    with pytest.raises(RuntimeError, match="3129"):
        made.loss(replace(ours, loss_compat=LossCompat(reads_kl_by_3129=True)))
    answered = made.task.predict(ours, made.knowledge, made.model, batch)
    assert max(told.exp().amax(dim=1).tolist()) == pytest.approx(
        max(each.confidence for each in answered), abs=1e-4
    )


def test_retrieval_overflows_with_tags() -> None:
    ours = RetrievalConfig(view=replace(VIEW, max_regions=4), max_text=6)
    made = Made("retrieval", ours)
    theirs = replace(ours, packing_compat=PackingCompat(overflows_with_tags=True))
    lengths = [made.batch(each).packed.input_ids.shape[1] for each in (ours, theirs)]
    assert lengths[0] == 6
    assert lengths[1] > 6


@pytest.mark.parametrize("task", ["captioning", "pretraining", "retrieval", "vqa"])
def test_the_defaults_switch_nothing_on(task: str) -> None:
    for compat in _compats(load_task(task).config()):
        assert not any(getattr(compat, each.name) for each in fields(compat))


def test_every_switch_can_be_thrown_in_some_setting() -> None:
    configs: Sequence[Any] = [
        CaptioningConfig(),
        PretrainingConfig(),
        RetrievalConfig(),
        VqaConfig(),
        TrainingConfig(),
    ]
    found = {type(compat) for config in configs for compat in _compats(config)}
    assert found >= {GenerationCompat, LossCompat, PackingCompat, SampleCompat}


def _compats(config: Any) -> list[Any]:
    return [getattr(config, each.name) for each in fields(config) if "compat" in each.name]


def test_switches_are_read_from_a_configuration() -> None:
    values = {"loss_compat": {"may_drop_every_word": True}}
    found = build(Tree(values=values, origins={}), CaptioningConfig)
    assert found == CaptioningConfig(loss_compat=LossCompat(may_drop_every_word=True))
