"""Retrieval: ranks with known results, pairs as drawn, and learning it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oscar_core.errors import TaskError
from oscar_core.run import predict_task, score_task, train_task
from oscar_core.task import Knowledge
from oscar_core.tasks.retrieval.collate import Batch, Ranking, collate
from oscar_core.tasks.retrieval.dataset import candidate_ids, examples, texts
from oscar_core.tasks.retrieval.head import build_model
from oscar_core.tasks.retrieval.predict import predict
from oscar_core.tasks.retrieval.records import Config, Prediction
from oscar_core.tasks.retrieval.score import score
from oscar_core.tasks.retrieval.train import log_odds
from oscar_core.tokens import Tokenizer, build_vocabulary
from oscar_core.views import ViewSettings
from tests.builders_library import TINY, make_library, tiny_training

LIBRARY = make_library(num_train=12, num_test=2)
CONFIG = Config(view=ViewSettings(max_regions=4))
KNOWLEDGE = Knowledge(tokenizer=Tokenizer(build_vocabulary(texts(CONFIG, LIBRARY))))
FIRST, SECOND = LIBRARY.image_ids("test")


def predictions(*rows: tuple[str, tuple[float, float]]) -> list[Prediction]:
    return [
        Prediction(caption_id=str(number), image_id=image_id, text="", scores=scores)
        for number, (image_id, scores) in enumerate(rows)
    ]


def test_both_captions_nearest_to_the_first_image_find_one_of_two() -> None:
    told = predictions((FIRST, (2.0, 1.0)), (SECOND, (3.0, 1.0)))
    values = score(CONFIG, {"": told}, LIBRARY, "test").values
    # the first image prefers the second caption, the second has equal scores: the later one wins
    assert (values["t2i.r1"], values["i2t.r1"]) == (0.5, 0.5)
    assert (values["t2i.r5"], values["i2t.r5"]) == (1.0, 1.0)


def test_own_scores_above_all_others_find_everything() -> None:
    right = predictions((FIRST, (2.0, 1.0)), (SECOND, (0.0, 1.5)))
    wrong = predictions((FIRST, (1.0, 2.0)), (SECOND, (1.5, 0.0)))
    values = score(CONFIG, {"": right, "shuffled": wrong}, LIBRARY, "test").values
    assert (values["t2i.r1"], values["i2t.r1"]) == (1.0, 1.0)
    assert (values["t2i.r1_shuffled"], values["i2t.r1_shuffled"]) == (0.0, 0.0)


def test_scores_of_other_candidates_are_refused() -> None:
    with pytest.raises(TaskError, match="predict again"):
        score(CONFIG, {"": predictions((FIRST, (1.0, 2.0)))}, make_library(num_test=5), "test")


def pairs_of(batch: Batch) -> list[tuple[str, int]]:
    tokenizer = KNOWLEDGE.tokenizer
    shown = [tokenizer.decode(row).replace(" ", "") for row in batch.packed.input_ids.tolist()]
    return list(zip(shown, batch.labels.tolist(), strict=True))


@given(st.integers(0, 500), st.integers(1, 4))
def test_the_recipe_shows_each_caption_once_right_and_once_wrong(seed: int, num: int) -> None:
    found = examples(CONFIG, LIBRARY, "train")
    chosen = [found[i] for i in np.random.default_rng(seed).integers(0, len(found), num)]
    generators = [np.random.default_rng([seed, i]) for i in range(num)]
    batch = collate(CONFIG, KNOWLEDGE, chosen, generators)
    assert batch.labels.tolist() == [1, 0] * num
    for place, example in enumerate(chosen):
        right, wrong = pairs_of(batch)[2 * place : 2 * place + 2]
        tags = example.pool.views[example.image_id].tags.replace(" ", "")
        assert right[0] == example.text + tags
        regions = batch.packed.region_features[2 * place : 2 * place + 2]
        is_same_image = bool((regions[0] == regions[1]).all())
        assert wrong[0].startswith(example.text) or is_same_image


@given(st.integers(0, 500), st.integers(2, 5), st.integers(1, 3))
def test_a_group_shows_every_caption_with_every_image(seed: int, size: int, tries: int) -> None:
    config = replace(CONFIG, group_size=size, num_tries=tries)
    found = examples(config, LIBRARY, "train")
    batch = collate(config, KNOWLEDGE, [found[0]], [np.random.default_rng(seed)])
    assert batch.labels.view(size, size).equal(torch.eye(size, dtype=torch.int64))
    regions = batch.packed.region_features.view(size, size, -1)
    assert all(regions[0].equal(row) for row in regions)
    assert len({tuple(image.tolist()) for image in regions[0]}) == size


def test_many_tries_find_the_images_whose_captions_share_most_words() -> None:
    config = replace(CONFIG, group_size=2, num_tries=200)
    found = examples(config, LIBRARY, "train")
    for example in found[:4]:
        batch = collate(config, KNOWLEDGE, [example], [np.random.default_rng(1)])
        other = batch.packed.region_features[1]
        words = example.pool.words
        likeness = [
            len(words[example.number] & each) / len(words[example.number] | each) for each in words
        ]
        likeness[example.number] = -1.0
        best = max(likeness)
        nearest = [
            example.pool.views[example.pool.image_ids[i]].regions
            for i, value in enumerate(likeness)
            if value == best
        ]
        assert any(np.array_equal(other.numpy(), regions) for regions in nearest)


@pytest.mark.parametrize("num_captions", [1, 2])
def test_fewer_captions_are_fewer_pairs_at_once(num_captions: int) -> None:
    library = make_library(num_test=70)
    ranking = collate(CONFIG, KNOWLEDGE, examples(CONFIG, library, "test")[:num_captions], None)
    sizes = TINY.for_input(vocabulary_size=len(KNOWLEDGE.tokenizer), region_feature_dim=12)
    model = build_model(CONFIG, KNOWLEDGE, sizes).eval()
    seen: list[int] = []
    model.register_forward_hook(lambda _, given, told: seen.append(len(told)))
    with torch.no_grad():
        predict(CONFIG, KNOWLEDGE, model, ranking)
    assert seen == [64 * num_captions, 6 * num_captions]


@pytest.mark.parametrize("num_pairs", [1, 5, 256])
def test_candidates_seen_a_few_at_a_time_get_the_same_scores(num_pairs: int) -> None:
    library = make_library(num_test=7)
    found = examples(CONFIG, library, "test")[:3]
    torch.manual_seed(0)
    sizes = TINY.for_input(vocabulary_size=len(KNOWLEDGE.tokenizer), region_feature_dim=12)
    model = build_model(CONFIG, KNOWLEDGE, sizes).eval()
    ranking = collate(CONFIG, KNOWLEDGE, found, None)
    assert isinstance(ranking, Ranking)
    parts = list(ranking.parts(num_pairs))
    assert max(map(len, parts)) <= num_pairs
    assert sum(map(len, parts)) == 3 * 7
    with torch.no_grad():
        odds = torch.cat([log_odds(model(part)) for part in parts])
        told = predict(CONFIG, KNOWLEDGE, model, ranking)
    assert np.allclose([each.scores for each in told], odds.view(3, 7), atol=2e-5)


def test_a_group_is_no_larger_than_there_are_images() -> None:
    library = make_library(num_train=3)
    config = replace(CONFIG, group_size=8)
    found = examples(config, library, "train")
    batch = collate(config, KNOWLEDGE, [found[0]], [np.random.default_rng(0)])
    assert len(batch.labels) == 9


def test_candidates_can_be_fewer_images_and_captions() -> None:
    library = make_library(num_test=6)
    config = replace(CONFIG, num_images=3, num_captions=1)
    names = candidate_ids(config, library, "test")
    assert names == library.image_ids("test")[:3]
    assert [each.image_id for each in examples(config, library, "test")] == names


def test_one_image_cannot_be_ranked() -> None:
    with pytest.raises(TaskError, match="need at least 2"):
        examples(CONFIG, make_library(num_test=1), "test")


@pytest.mark.parametrize("wrong", [{"group_size": 1}, {"num_captions": 0}, {"num_tries": 0}])
def test_settings_without_a_choice_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(TaskError):
        Config(**wrong)


@pytest.mark.parametrize("group_size", [0, 4])
def test_it_learns_to_match(tmp_path: Path, group_size: int) -> None:
    library = make_library(num_train=27, num_test=6, num_regions=1)
    config = replace(CONFIG, group_size=group_size, num_tries=2)
    train_task(
        task="retrieval",
        settings=config,
        encoder=TINY,
        training=tiny_training(steps=60, batch_size=4 if group_size else 24, learning_rate=1e-2),
        library=library,
        vocabulary=None,
        start=None,
        folder=tmp_path / "model",
        losses=tmp_path / "losses.jsonl",
        on_step=lambda report: None,
    )
    told = predict_task(
        model=tmp_path / "model", library=library, split="test", on_batch=lambda done, total: None
    )
    scores = score_task(
        task="retrieval", settings=config, predictions={"": told}, library=library, split="test"
    )
    assert scores.values["t2i.r1"] >= 0.5
