"""Pretraining: samples by the rules, then learning them."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscar_core.dice import PythonDice
from oscar_core.errors import TaskError
from oscar_core.losses import NOT_A_TARGET
from oscar_core.run import predict_task, train_task
from oscar_core.task import Knowledge, load_task
from oscar_core.tasks.pretraining.collate import collate, place_numbers
from oscar_core.tasks.pretraining.dataset import examples, phases, texts
from oscar_core.tasks.pretraining.records import (
    MATCHED,
    WRONG_FIRST,
    WRONG_SECOND,
    Config,
    Example,
    FirstKind,
    Prediction,
)
from oscar_core.tasks.pretraining.sample import Sample, make_sample
from oscar_core.tasks.pretraining.score import score
from oscar_core.tokens import Tokenizer, build_vocabulary
from oscar_core.views import ViewSettings
from tests.builders_library import TINY, make_library, tiny_training

LIBRARY = make_library()
VIEW = ViewSettings(max_regions=4)
TOKENIZER = Tokenizer(build_vocabulary(texts(Config(), LIBRARY)))


def draws(config: Config, num: int = 400) -> list[tuple[Example, Sample]]:
    found = examples(config, LIBRARY, "train")
    return [
        (example, make_sample(config, TOKENIZER, example, PythonDice(i)))
        for i, example in enumerate(found[i % len(found)] for i in range(num))
    ]


def told(ids: list[int], labels: list[int]) -> str:
    """The text of a part before masking."""
    true = [
        label if label != NOT_A_TARGET else word for word, label in zip(ids, labels, strict=False)
    ]
    return "".join(TOKENIZER.vocabulary[i] for i in true[1:-1])


def test_half_is_matched_and_a_quarter_each_has_a_wrong_text() -> None:
    labels = Counter(sample.label for _, sample in draws(Config(view=VIEW)))
    assert 170 <= labels[MATCHED] <= 230
    assert labels[WRONG_FIRST] >= 80
    assert labels[WRONG_SECOND] >= 80


def test_labels_tell_what_was_changed() -> None:
    for example, sample in draws(Config(view=VIEW, mask_probability=0.3)):
        first = told(sample.text.first, sample.first_labels)
        is_own = first == example.document.first
        assert is_own == (sample.label != WRONG_FIRST)


def test_the_same_text_is_never_wrong() -> None:
    # answers repeat all the time: three colours in all
    for example, sample in draws(Config(view=VIEW, negatives="answers", wrong_first=0.0)):
        if sample.label == WRONG_SECOND and example.document.is_question:
            second = told([0, *sample.text.second], [NOT_A_TARGET, *sample.second_labels])
            assert second != example.document.second


def test_masks_are_as_many_as_asked_and_mostly_masks() -> None:
    samples = [s for _, s in draws(Config(view=VIEW, mask_probability=0.4), 800)]
    pairs = [
        (word, label)
        for s in samples
        for word, label in zip(s.text.first, s.first_labels, strict=True)
        if word not in (TOKENIZER.cls_id, TOKENIZER.sep_id)
    ]
    masked = [(word, label) for word, label in pairs if label != NOT_A_TARGET]
    assert len(masked) / len(pairs) == pytest.approx(0.4, abs=0.02)
    kinds = Counter(
        "mask" if word == TOKENIZER.mask_id else "kept" if word == label else "other"
        for word, label in masked
    )
    assert kinds["mask"] / len(masked) == pytest.approx(0.8, abs=0.03)
    assert kinds["other"]
    assert kinds["kept"]


def test_no_special_token_replaces_a_word() -> None:
    special = {TOKENIZER.pad_id, TOKENIZER.unk_id, TOKENIZER.cls_id, TOKENIZER.sep_id}
    for _, sample in draws(Config(view=VIEW, mask_probability=1.0)):
        assert not special & set(sample.text.first[1:-1])


def test_mismatched_words_need_not_be_learned_but_are_masked() -> None:
    config = Config(view=VIEW, learns_mismatched=False, mismatch=1.0, mask_probability=0.5)
    wrong = [sample for _, sample in draws(config, 50) if sample.label != MATCHED]
    assert all(set(s.first_labels + s.second_labels) == {NOT_A_TARGET} for s in wrong)
    assert sum(TOKENIZER.mask_id in sample.text.first for sample in wrong) > len(wrong) / 2


def test_a_hidden_answer_is_hidden_whole_and_alone() -> None:
    config = Config(view=VIEW, answer_mask=1.0, question_mask=0.0, mismatch=0.0, wrong_first=0.0)
    for example, sample in draws(config):
        if example.document.is_question:
            assert set(sample.text.second[:-1]) == {TOKENIZER.mask_id}
            assert set(sample.first_labels) == {NOT_A_TARGET}


def test_detector_words_have_their_own_chance() -> None:
    config = Config(view=VIEW, mask_probability=0.0, label_mask=1.0, mismatch=0.0, wrong_first=0.0)
    labels = {TOKENIZER.ids(word)[0] for word in "红蓝绿球车树"}
    for _, sample in draws(config):
        masked = {label for label in sample.first_labels if label != NOT_A_TARGET}
        assert masked <= labels
        assert not labels & set(sample.text.first) or masked


def test_tags_can_be_left_out() -> None:
    config = Config(view=VIEW, tag_drop=1.0)
    assert all(
        not sample.text.second
        for example, sample in draws(config)
        if not example.document.is_question
    )


@given(st.integers(5, 40), st.integers(0, 1000))
def test_samples_fit_and_their_labels_stand_where_they_belong(max_text: int, seed: int) -> None:
    config = Config(view=VIEW, max_text=max_text, region_weight=1.0, region_places=("左", "右"))
    found = examples(config, LIBRARY, "train")
    chosen = [found[i] for i in np.random.default_rng(seed).integers(0, len(found), 6)]
    generators = [np.random.default_rng([seed, i]) for i in range(6)]
    batch = collate(config, Knowledge(tokenizer=TOKENIZER), chosen, generators)
    assert sum(len(rows.packed) for rows in batch.rows) == 6
    for rows in batch.rows:
        num_text = rows.packed.input_ids.shape[1]
        assert num_text <= max_text
        masked = rows.word_labels != NOT_A_TARGET
        assert not masked[:, num_text:].any()
        assert not masked[~rows.packed.attention_mask].any()
        assert rows.region_words.shape[:2] == rows.packed.region_features.shape[:2]


def test_an_example_is_drawn_the_same_in_any_batch() -> None:
    config = Config(view=VIEW)
    example = examples(config, LIBRARY, "train")[0]
    one, two = (make_sample(config, TOKENIZER, example, PythonDice(12)) for _ in range(2))
    assert one == two


def test_places_count_from_the_left() -> None:
    regions = np.zeros((3, 10), dtype=np.float32)
    regions[:, -6] = [0.0, 0.4, 0.9]  # x1 / W
    regions[:, -4] = [0.2, 0.7, 1.0]  # x2 / W
    assert place_numbers(regions, 2).tolist() == [0, 1, 1]
    assert place_numbers(regions, 3).tolist() == [0, 1, 2]


def test_probe_images_are_in_no_group() -> None:
    config = Config(
        view=VIEW,
        question_share=0.5,
        balances_kinds=True,
        first=FirstKind(question_type="colour", num_probe_images=3),
    )
    found = examples(config, LIBRARY, "train")
    opening, mixture = phases(config, found)
    kept_aside = {found[i].document.image_id for i in opening.probe}
    assert len(kept_aside) == 3
    for phase in (opening, mixture):
        shown = {found[i].document.image_id for group in phase.groups for i in group.indices}
        assert not shown & kept_aside
    assert [group.share for group in mixture.groups] == [0.5, 0.5]


def test_an_opening_without_questions_is_refused() -> None:
    config = Config(view=VIEW, first=FirstKind(question_type="smell"))
    with pytest.raises(TaskError, match="smell"):
        phases(config, examples(config, LIBRARY, "train"))


@pytest.mark.parametrize("wrong", [{"wrong_first": 0.6}, {"mismatch": 1.5}, {"tag_drop": -0.1}])
def test_shares_that_are_none_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(TaskError):
        Config(**wrong)


def prediction(is_right: bool, kind: str = "colour") -> Prediction:
    return Prediction(
        image_id="a", kind=kind, question="", told="红" if is_right else "蓝", answer="红"
    )


def test_one_right_of_two_scores_a_half() -> None:
    predictions = {"": [prediction(True), prediction(False, "pattern")]}
    assert score(Config(), predictions, LIBRARY, "test").values == {
        "accuracy": 0.5,
        "accuracy.colour": 1.0,
        "accuracy.pattern": 0.0,
    }


def test_controls_keep_their_names() -> None:
    predictions = {"": [prediction(True)], "shuffled": [prediction(False)]}
    values = score(Config(), predictions, LIBRARY, "test").values
    assert (values["accuracy"], values["accuracy_shuffled"]) == (1.0, 0.0)


def test_it_learns_to_look(tmp_path: Path) -> None:
    """Colours of objects in new pictures, which their tags do not tell."""
    library = make_library(num_train=60, num_test=12)
    config = Config(
        view=VIEW,
        answer_mask=1.0,
        question_mask=0.0,
        question_share=0.8,
        region_weight=1.0,
        mismatch=0.0,
        wrong_first=0.0,
    )
    train_task(
        task="pretraining",
        settings=config,
        encoder=replace(TINY, hidden_size=48, num_layers=2),
        training=tiny_training(steps=110, batch_size=32, checkpoint_every=0),
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
    values = load_task("pretraining").score(config, {"": found}, library, "test").values
    assert values["accuracy"] > 0.8
