"""VQA: scores with known results, targets, packing, and learning it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscar_core.errors import TaskError
from oscar_core.metrics.errors import CoverageError
from oscar_core.run import predict_task, score_task, train_task
from oscar_core.task import Knowledge
from oscar_core.tasks.vqa.collate import collate
from oscar_core.tasks.vqa.dataset import answers, examples, targets_of, texts
from oscar_core.tasks.vqa.records import Config, Prediction
from oscar_core.tasks.vqa.score import score
from oscar_core.tokens import Tokenizer, build_vocabulary
from oscar_core.views import ViewSettings
from storage.library import Library
from storage.records import Annotations
from tests.builders_library import TINY, make_library, tiny_training

LIBRARY = make_library()
CONFIG = Config(view=ViewSettings(max_regions=4), min_questions=1)
TOKENIZER = Tokenizer(build_vocabulary(texts(CONFIG, LIBRARY)))


def library_with_answers(*asked: tuple[str, str, tuple[str, ...]]) -> Library:
    """Test questions of (type, split, answers)."""
    (pattern, *_) = LIBRARY.annotations.questions
    questions = tuple(
        replace(pattern, question_id=str(number), question_type=kind, split=split, answers=people)
        for number, (kind, split, people) in enumerate(asked)
    )
    return replace(LIBRARY, annotations=Annotations(questions=questions))


def predictions(*answers: str) -> list[Prediction]:
    return [
        Prediction(
            question_id=str(number),
            image_id="a",
            question="",
            answer=answer,
            confidence=1.0,
            question_type="",
            answers=(),
        )
        for number, answer in enumerate(answers)
    ]


def test_one_right_of_two_scores_a_half_and_each_kind_for_itself() -> None:
    library = library_with_answers(
        ("colour", "test", ("红",) * 10), ("count", "test", ("二",) * 10)
    )
    values = score(CONFIG, {"": predictions("红", "三")}, library, "test").values
    assert values["accuracy"] == 0.5
    assert (values["accuracy.colour"], values["accuracy.count"]) == (1.0, 0.0)


def test_two_of_ten_people_are_worth_six_tenths() -> None:
    # the eight others see 2 of 3 needed; the two themselves see one other each
    library = library_with_answers(("colour", "test", ("红",) * 2 + ("蓝",) * 8))
    values = score(CONFIG, {"": predictions("红")}, library, "test").values
    assert values["accuracy"] == pytest.approx((8 * 2 / 3 + 2 * 1 / 3) / 10)


def test_a_single_persons_answer_counts_in_full() -> None:
    library = library_with_answers(("colour", "test", ("红",)))
    assert score(CONFIG, {"": predictions("红")}, library, "test").values["accuracy"] == 1.0


def test_the_majority_is_that_of_the_training_questions() -> None:
    # the predictions answer the test questions, whose numbers follow the training ones
    library = library_with_answers(
        ("", "test", ("红",) * 10),
        ("", "test", ("蓝",) * 10),
        ("", "train", ("蓝",) * 10),
        ("", "train", ("蓝",) * 10),
        ("", "train", ("红",) * 10),
    )
    values = score(CONFIG, {"": predictions("红", "红")}, library, "test").values
    assert (values["accuracy"], values["majority"]) == (0.5, 0.5)


def test_controls_end_in_their_names() -> None:
    library = library_with_answers(("colour", "test", ("红",) * 10))
    values = score(
        CONFIG, {"": predictions("红"), "shuffled": predictions("蓝")}, library, "test"
    ).values
    assert (values["accuracy"], values["accuracy_shuffled"]) == (1.0, 0.0)
    assert values["accuracy.colour_shuffled"] == 0.0


def test_a_question_left_out_is_an_error() -> None:
    library = library_with_answers(("", "test", ("红",) * 10), ("", "test", ("红",) * 10))
    with pytest.raises(CoverageError):
        score(CONFIG, {"": predictions("红")}, library, "test")


def test_targets_are_soft_scores_of_known_answers() -> None:
    people = ("红",) * 1 + ("蓝",) * 3 + ("绿",) * 6
    assert targets_of(people, {"红": 0, "蓝": 1}) == {"红": 0.3, "蓝": 0.9}
    assert targets_of(("绿",), {"绿": 0}) == {"绿": 1.0}
    assert targets_of(("绿",), {"红": 0}) == {}


def test_rare_answers_cannot_be_chosen() -> None:
    library = library_with_answers(
        *[("", "train", ("红",) * 10)] * 3, ("", "train", ("蓝",) * 10), ("", "test", ("蓝",) * 10)
    )
    config = replace(CONFIG, min_questions=2)
    assert answers(config, library) == ("红",)
    assert len(examples(config, library, "train")) == 3
    assert len(examples(config, library, "test")) == 1  # still asked, and lost
    with pytest.raises(TaskError, match="min_questions"):
        answers(replace(CONFIG, min_questions=9), library)


@given(st.integers(0, 1000), st.integers(1, 4), st.integers(5, 30))
def test_every_question_is_packed_with_its_tags(seed: int, num_regions: int, max_text: int) -> None:
    config = replace(CONFIG, view=ViewSettings(max_regions=num_regions), max_text=max_text)
    found = examples(config, LIBRARY, "train")
    chosen = [found[i] for i in np.random.default_rng(seed).integers(0, len(found), 3)]
    knowledge = Knowledge(tokenizer=TOKENIZER, answers=answers(config, LIBRARY))
    batch = collate(config, knowledge, chosen, None)
    assert batch.packed.input_ids.shape[1] <= max_text
    assert batch.packed.region_features.shape[1] <= num_regions
    for row, target, example in zip(
        batch.packed.input_ids.tolist(), batch.targets, chosen, strict=True
    ):
        shown = TOKENIZER.decode(row).replace(" ", "")
        whole = example.question + example.view.tags.replace(" ", "")
        assert shown == whole if len(whole) + 3 <= max_text else len(shown) < len(whole)
        assert knowledge.answers[int(target.argmax())] == example.answers[0]


@pytest.mark.parametrize("loss", ["bce", "cross_entropy"])
def test_it_learns_to_answer(tmp_path: Path, loss: str) -> None:
    library = make_library(num_train=24, num_test=6, num_regions=1)
    config = replace(CONFIG, loss=loss)
    train_task(
        task="vqa",
        settings=config,
        encoder=TINY,
        training=tiny_training(steps=40, batch_size=16, learning_rate=1e-2),
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
        task="vqa", settings=config, predictions={"": told}, library=library, split="test"
    )
    assert scores.values["accuracy"] == 1.0
