"""Judges answers by the official VQA accuracy."""

from collections import Counter
from collections.abc import Mapping, Sequence

from oscar_core.errors import TaskError
from oscar_core.metrics.answers import JudgedQuestion, main_answer, people_of, vqa_accuracy
from oscar_core.task import Scores
from oscar_core.tasks.vqa.records import Config, Prediction
from storage.library import Library


def score(
    config: Config, predictions: Mapping[str, Sequence[Prediction]], library: Library, split: str
) -> Scores:
    """Accuracy over all questions and by question type; and of the majority answer.

    `majority` answers every question with the most common answer of the training split.
    Two questions, ten people agreeing on each, one answered rightly: accuracy 0.5.

    Raises:
        TaskError: The split has no answered questions.
        CoverageError: A question is not answered, or is unknown.
    """
    judged = [
        JudgedQuestion(
            question_id=each.question_id,
            answers=people_of(each.answers),
            question_type=each.question_type,
            answer_type=each.answer_type,
        )
        for each in library.questions(split, config.language)
        if each.answers
    ]
    if not judged:
        raise TaskError(f"vqa: no question of split {split!r} in {config.language!r}")
    values: dict[str, float] = {}
    for control, told in predictions.items():
        ending = f"_{control}" if control else ""
        found = vqa_accuracy(judged, {each.question_id: each.answer for each in told})
        values[f"accuracy{ending}"] = found.overall
        for kind, value in found.by_question_type.items():
            if kind:
                values[f"accuracy.{kind}{ending}"] = value
    majority = _majority_answer(config, library)
    values["majority"] = vqa_accuracy(
        judged, {each.question_id: majority for each in judged}
    ).overall
    return Scores(values=values, versions={"vqa": "official VQA accuracy, own implementation"})


def _majority_answer(config: Config, library: Library) -> str:
    asked = library.questions("train", config.language)
    counts = Counter(main_answer(each.answers) for each in asked if each.answers)
    return counts.most_common(1)[0][0] if counts else ""
