"""Captioning: scores with known results, packing, and learning it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscar_core.errors import TaskError
from oscar_core.metrics.errors import CoverageError
from oscar_core.run import predict_task, train_task
from oscar_core.task import Knowledge, Scores
from oscar_core.tasks.captioning.collate import collate
from oscar_core.tasks.captioning.dataset import examples, texts
from oscar_core.tasks.captioning.records import Config, Prediction
from oscar_core.tasks.captioning.score import score
from oscar_core.tokens import Tokenizer, build_vocabulary
from oscar_core.views import ViewSettings
from tests.builders_library import TINY, make_library, tiny_training

LIBRARY = make_library()
CONFIG = Config(
    view=ViewSettings(max_regions=4),
    max_text=24,
    max_text_a=18,
    mask_probability=0.4,
    max_masked=8,
    freezes_embedding=False,
    label_smoothing=0.0,
    num_beams=1,
    max_length=18,
)
KNOWLEDGE = Knowledge(tokenizer=Tokenizer(build_vocabulary(texts(CONFIG, LIBRARY))))


def told(captions: dict[str, str]) -> list[Prediction]:
    return [
        Prediction(image_id=image_id, caption=caption, log_probability=0.0)
        for image_id, caption in captions.items()
    ]


def references() -> dict[str, str]:
    return {each.image_id: each.text for each in LIBRARY.captions("test", "zh")}


@pytest.fixture(scope="module")
def scores() -> Scores:
    """Own references, those of other images, and foreign words; Java starts but once."""
    own = references()
    others = dict(zip(own, [*list(own.values())[1:], next(iter(own.values()))], strict=True))
    foreign = dict.fromkeys(own, "天上有云")
    predictions = {"": told(own), "shuffled": told(others), "features_shuffled": told(foreign)}
    return score(CONFIG, predictions, LIBRARY, "test")


def test_the_references_themselves_score_best_and_others_captions_less(scores: Scores) -> None:
    values = scores.values
    assert values["bleu_1"] == pytest.approx(1.0)
    assert values["rouge_l"] == pytest.approx(1.0)
    assert values["cider"] > values["cider_shuffled"] > 0
    assert values["meteor"] > values["meteor_shuffled"] > 0


def test_captions_without_a_common_word_score_nothing(scores: Scores) -> None:
    assert scores.values["cider_features_shuffled"] == 0.0
    assert scores.values["rouge_l_features_shuffled"] == 0.0
    assert scores.values["bleu_1_features_shuffled"] < 1e-6


def test_versions_tell_the_segmenter(scores: Scores) -> None:
    assert "jieba" in scores.versions["segmenter"]


def test_an_image_without_a_caption_is_an_error() -> None:
    few = dict(list(references().items())[1:])
    with pytest.raises(CoverageError):
        score(CONFIG, {"": told(few)}, LIBRARY, "test")


def test_a_split_without_captions_is_an_error() -> None:
    with pytest.raises(TaskError, match="'val'"):
        examples(CONFIG, LIBRARY, "val")


def test_each_image_is_described_once() -> None:
    found = examples(CONFIG, LIBRARY, "test")
    assert [each.image_id for each in found] == LIBRARY.image_ids("test")
    batch = collate(CONFIG, KNOWLEDGE, found, None)
    assert batch.image_ids == tuple(LIBRARY.image_ids("test"))
    assert batch.captions.caption_slots == CONFIG.max_length


@given(st.integers(0, 1000), st.floats(0.05, 0.9))
def test_masked_words_can_be_put_back(seed: int, probability: float) -> None:
    config = replace(CONFIG, mask_probability=probability)
    found = examples(config, LIBRARY, "train")
    chosen = [found[i] for i in np.random.default_rng(seed).integers(0, len(found), 3)]
    generators = [np.random.default_rng([seed, i]) for i in range(3)]
    batch = collate(config, KNOWLEDGE, chosen, generators).captions
    ids = batch.packed.input_ids.clone()
    ids[batch.masked] = batch.targets()
    for row, example in zip(ids.tolist(), chosen, strict=True):
        shown = KNOWLEDGE.tokenizer.decode(row).replace(" ", "")
        assert shown == example.caption + example.view.tags.replace(" ", "")


def test_it_learns_to_describe(tmp_path: Path) -> None:
    library = make_library(num_train=27, num_test=6, num_regions=1)
    train_task(
        task="captioning",
        settings=CONFIG,
        encoder=TINY,
        training=tiny_training(steps=60, batch_size=16, learning_rate=1e-2),
        library=library,
        vocabulary=None,
        start=None,
        folder=tmp_path / "model",
        losses=tmp_path / "losses.jsonl",
        on_step=lambda report: None,
    )
    found = predict_task(
        model=tmp_path / "model", library=library, split="test", on_batch=lambda done, total: None
    )
    true = {each.image_id: each.text for each in library.captions("test", "zh")}
    right = [each.caption == true[each.image_id] for each in found]
    assert sum(right) / len(right) > 0.6
