"""The VQA accuracy, the GQA measures and NLVR2, by worked cases."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscar_core.metrics import gqa
from oscar_core.metrics.answers import (
    JudgedQuestion,
    answer_accuracy,
    build_answer_vocabulary,
    main_answer,
    normalise_answer,
    normalise_punctuation,
    people_of,
    read_vqa_annotations,
    read_vqa_results,
    soft_targets,
    vqa_accuracy,
)
from oscar_core.metrics.errors import CoverageError, MetricFileError, MetricInputError
from oscar_core.metrics.nlvr2 import nlvr2_scores, read_prediction_rows

TEN = ("yes",) * 10


@pytest.mark.parametrize(
    ("num_agree", "accuracy"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (9, 1)]
)
def test_accuracy_by_the_number_of_people_who_agree(num_agree: int, accuracy: float) -> None:
    people = ["cat"] * num_agree + [f"dog {n}" for n in range(10 - num_agree)]
    assert answer_accuracy(people, "The cat.") == pytest.approx(accuracy)


def test_ten_equal_answers_are_compared_without_normalisation() -> None:
    assert answer_accuracy(TEN, "yes") == 1.0
    assert answer_accuracy(TEN, " yes\n") == 1.0
    assert answer_accuracy(TEN, "Yes.") == 0.0


def test_at_most_32_full_stops_are_removed() -> None:
    assert normalise_punctuation("." * 40) == "." * 8


@given(st.text(max_size=30))
def test_normalisation_never_fails(text: str) -> None:
    assert normalise_answer(text) == normalise_answer(f" {text}\t")


def test_means_over_questions_and_types() -> None:
    questions = [
        JudgedQuestion(question_id="1", answers=TEN, question_type="is the", answer_type="yes/no"),
        JudgedQuestion(question_id="2", answers=("红色",), answer_type="other"),
    ]
    scores = vqa_accuracy(questions, {"1": "yes", "2": "红色"})
    assert scores.per_question == {"1": 1.0, "2": 0.0}  # one person alone has nobody to agree with
    assert scores.by_answer_type == {"yes/no": 1.0, "other": 0.0}
    assert scores.by_question_type == {"is the": 1.0, "": 0.0}
    assert scores.overall_percent == 50.0
    assert scores.percent_by_answer_type == {"yes/no": 100.0, "other": 0.0}


@pytest.mark.parametrize(
    ("predictions", "said"),
    [({}, "1 questions not answered: 1"), ({"1": "a", "2": "b"}, "answers to 1 unknown.*: 2")],
)
def test_ids_must_agree(predictions: dict[str, str], said: str) -> None:
    with pytest.raises(CoverageError, match=said):
        vqa_accuracy([JudgedQuestion(question_id="1", answers=TEN)], predictions)


def test_questions_that_cannot_be_scored() -> None:
    twice = [JudgedQuestion(question_id="1", answers=TEN)] * 2
    with pytest.raises(CoverageError, match="listed twice: 1"):
        vqa_accuracy(twice, {"1": "yes"})
    with pytest.raises(MetricInputError, match="no question"):
        vqa_accuracy([], {})
    with pytest.raises(MetricInputError, match="without answers"):
        answer_accuracy([], "yes")


def test_official_files() -> None:
    rows = [{"question_id": 7, "answers": [{"answer": "no"}], "question_type": "is"}]
    assert read_vqa_annotations(rows) == [
        JudgedQuestion(question_id="7", answers=("no",), question_type="is")
    ]
    assert read_vqa_results([{"question_id": 7, "answer": "no"}]) == {"7": "no"}
    for bad in ({}, [{}], [1], [{"question_id": 1, "answers": 5}]):
        with pytest.raises(MetricFileError):
            read_vqa_annotations(bad)
    for bad in ({}, [{}], [1], [{"question_id": 1, "answer": 5}]):
        with pytest.raises(MetricFileError):
            read_vqa_results(bad)
    with pytest.raises(CoverageError, match="answered twice"):
        read_vqa_results([{"question_id": 7, "answer": "no"}] * 2)


def test_vocabulary_and_soft_targets() -> None:
    assert build_answer_vocabulary(["A dog"] * 9 + ["cat"] * 8) == ("dog",)
    people = ["red"] * 5 + ["blue"] * 2 + ["Red"] * 3
    assert soft_targets(people) == {"red": 1.0, "blue": 0.6, "Red": 0.9}
    assert soft_targets(people, {"red": 0}) == {"red": 1.0}


def question(**changes: Any) -> gqa.Question:
    entry: Any = {
        "question": "is it red ?",
        "answer": "yes",
        "imageId": "i",
        "isBalanced": True,
        "types": {"structural": "verify", "semantic": "attr", "detailed": "verifyAttr"},
        "groups": {"global": None},
        "entailed": [],
        "semantic": [],
        "annotations": {"question": {"2": "o1"}, "answer": {}, "fullAnswer": {}},
    }
    return entry | changes


def test_gqa_consistency_counts_over_questions_entailed_by_right_answers() -> None:
    questions = {
        "a": question(entailed=["a", "b", "c"]),
        "b": question(isBalanced=False),
        "c": question(entailed=["a"]),
    }
    scores = gqa.gqa_scores(questions, {"a": "yes", "b": "no", "c": "yes"}, with_consistency=True)
    assert scores.metrics["consistency"] == pytest.approx((0.5 + 1.0) / 2)
    assert scores.metrics["accuracy"] == 1.0
    assert "distribution" not in scores.metrics
    assert scores.metrics["validity"] == 0.0
    assert scores.by_num_words == {4: (1.0, 2)}


def test_gqa_grounding_is_attention_inside_the_boxes() -> None:
    scene: gqa.Scene = {
        "width": 10,
        "height": 20,
        "objects": {"o1": {"x": 0, "y": 0, "w": 5, "h": 10}},
    }
    quarter = gqa.Attention(scenes={"i": scene}, maps={"a": [[0.4, 0.3], [0.2, 0.1]]})
    scores = gqa.gqa_scores({"a": question()}, {"a": "yes"}, attention=quarter)
    assert scores.metrics["grounding"] == pytest.approx(0.4)
    boxes = gqa.Attention(
        scenes={"i": scene}, maps={"a": [[0.25, 0.25, 0.75, 0.75, 0.8]]}, has_boxes=True
    )
    scores = gqa.gqa_scores({"a": question()}, {"a": "yes"}, attention=boxes)
    assert scores.metrics["grounding"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("questions", "arguments", "error"),
    [
        ({}, {}, MetricInputError),
        ({"a": question(isBalanced=False)}, {}, MetricInputError),
        ({"a": question(), "b": question()}, {}, CoverageError),
        ({"a": question()}, {"choices": {}}, CoverageError),
        ({"a": question(entailed=["z"])}, {"with_consistency": True}, CoverageError),
        ({"a": question()}, {"attention": gqa.Attention(scenes={}, maps={})}, CoverageError),
        (
            {"a": question()},
            {"attention": gqa.Attention(scenes={}, maps={"a": [[1.0]]})},
            CoverageError,
        ),
    ],
)
def test_gqa_refuses_what_it_cannot_score(
    questions: dict[str, gqa.Question], arguments: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        gqa.gqa_scores(questions, {"a": "yes"}, **arguments)


def test_gqa_prediction_rows() -> None:
    row = {"questionId": "1", "prediction": "yes"}
    assert gqa.read_predictions([row]) == {"1": "yes"}
    with pytest.raises(CoverageError, match="answered twice"):
        gqa.read_predictions([row, row])
    for bad in ({}, [{}], [3]):
        with pytest.raises(MetricFileError):
            gqa.read_predictions(bad)


def test_nlvr2_consistency_is_over_sentences() -> None:
    labels = {"dev-0-0-0": "True", "dev-0-1-0": "False", "dev-0-0-1": "True"}
    scores = nlvr2_scores(labels, {"dev-0-0-0": "true", "dev-0-1-0": "True", "dev-0-0-1": "True"})
    assert scores.accuracy == pytest.approx(2 / 3)
    assert scores.consistency == 0.5


def test_nlvr2_rows_and_errors() -> None:
    assert read_prediction_rows(["a,True\r\n", "a, False\n"]) == {"a": " False"}
    with pytest.raises(MetricFileError, match="line 1: no comma"):
        read_prediction_rows(["True"])
    with pytest.raises(CoverageError, match="1 of 1 predictions are missing: dev-0-0-0"):
        nlvr2_scores({"dev-0-0-0": "True"}, {})
    with pytest.raises(MetricInputError, match="split-set-pair-sentence"):
        nlvr2_scores({"dev": "True"}, {"dev": "True"})
    with pytest.raises(MetricInputError, match="no example"):
        nlvr2_scores({}, {})


def test_one_answer_counts_as_ten_people_in_the_form_of_predictions() -> None:
    assert people_of(("A man.",)) == ("man",) * 10
    assert people_of(("A man.", "man")) == ("A man.", "man")


def test_the_main_answer_is_the_first_of_equals() -> None:
    assert main_answer(("red", "blue", "blue", "red")) == "red"
    assert main_answer(()) == ""
