"""Accuracy of answers by the official VQA rule, and the soft targets of training.

The official accuracy normalises English answers unless all people gave the same; the soft score of
training looks up raw answers in a vocabulary. The two differ a little: reports say which.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from oscar_core.metrics.compat import OURS, MetricCompat
from oscar_core.metrics.errors import CoverageError, MetricFileError, MetricInputError, name_ids
from oscar_core.metrics.vqa_words import ARTICLES, CONTRACTIONS, NUMBER_WORDS, PUNCTUATION

MATCHES_FOR_FULL_SCORE = 3
MIN_QUESTIONS = 9  # tools/compute_softscore.py of bottom-up-attention-vqa; 3,129 answers in VQA v2
SOFT_SCORES = (0.0, 0.3, 0.6, 0.9)  # of 0 to 3 people; 1 from 4 on
_NUM_PEOPLE = 10
MAX_PERIODS = 32  # vqaEval.py passes re.UNICODE (32) where the count of replacements belongs

_PERIOD = re.compile(r"\.(?!\d)")
_DIGIT_COMMA = re.compile(r"\d,\d")


def strip_answer(text: str) -> str:
    """Line feeds and tabs become spaces, ends are stripped."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def normalise_punctuation(text: str) -> str:
    """Delete or blank the 21 marks, then delete full stops that no digit follows.

    A mark is deleted where the original text has it beside a space, or has a comma between digits
    anywhere; else it becomes a space.
    """
    has_digit_comma = _DIGIT_COMMA.search(text) is not None
    result = text
    for mark in PUNCTUATION:
        if mark in text:
            is_loose = f"{mark} " in text or f" {mark}" in text or has_digit_comma
            result = result.replace(mark, "" if is_loose else " ")
    return _PERIOD.sub("", result, count=MAX_PERIODS)


def normalise_words(text: str) -> str:
    """Lower case, number words to digits, no articles, apostrophes put back."""
    words = [NUMBER_WORDS.get(word, word) for word in text.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def normalise_answer(text: str) -> str:
    """The full normalisation of the official accuracy; may leave nothing.

    Source: specs/metrics.md section 11; vqaEval.py:processPunctuation, processDigitArticle.
    """
    return normalise_words(normalise_punctuation(strip_answer(text)))


def answer_accuracy(
    answers: Sequence[str], prediction: str, *, compat: MetricCompat = OURS
) -> float:
    """Mean over the people of min(1, others who agree with the prediction / 3).

    Args:
        answers: One per person, ten in VQA v2; nothing is normalised where all are the same.
        prediction: The answer to judge.
        compat: Faults of the original to repeat.

    Raises:
        MetricInputError: No answer at all.
    """
    if not answers:
        raise MetricInputError("answers: a question without answers cannot be scored")
    people = [strip_answer(answer) for answer in answers]
    guess = strip_answer(prediction)
    if len(set(people)) > 1:
        people = [normalise_answer(answer) for answer in people]
        guess = normalise_answer(guess)
    matches = people.count(guess)
    accuracies = []
    for person in people:
        is_own = person == guess
        lost = people.count(person) if compat.equal_answers_vanish else 1
        others = matches - (lost if is_own else 0)
        accuracies.append(min(1.0, others / MATCHES_FOR_FULL_SCORE))
    return sum(accuracies) / len(accuracies)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerScores:
    """Fractions, and the same in percent with two decimals as the official evaluation prints them.

    per_question: question id -> accuracy, in the order of the questions
    """

    overall: float
    by_question_type: dict[str, float]
    by_answer_type: dict[str, float]
    per_question: dict[str, float]
    overall_percent: float
    percent_by_question_type: dict[str, float]
    percent_by_answer_type: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedQuestion:
    """What people answered to one question."""

    question_id: str
    answers: tuple[str, ...]
    question_type: str = ""
    answer_type: str = ""


def vqa_accuracy(
    questions: Sequence[JudgedQuestion],
    predictions: Mapping[str, str],
    *,
    compat: MetricCompat = OURS,
) -> AnswerScores:
    """Official VQA accuracy over all questions and per type.

    Args:
        questions: With at least one answer each.
        predictions: Answer by question id; exactly the ids of the questions.
        compat: Faults of the original to repeat.

    Raises:
        CoverageError: Missing, unknown or repeated question ids.
        MetricInputError: No question, or one without answers.
    """
    if not questions:
        raise MetricInputError("vqa: no question to score")
    ids = [question.question_id for question in questions]
    repeated = [key for key, count in Counter(ids).items() if count > 1]
    if repeated:
        raise CoverageError(f"vqa: question listed twice: {name_ids(repeated)}")
    missing = [key for key in ids if key not in predictions]
    if missing:
        raise CoverageError(f"vqa: {len(missing)} questions not answered: {name_ids(missing)}")
    known = set(ids)
    unknown = [key for key in predictions if key not in known]
    if unknown:
        raise CoverageError(
            f"vqa: answers to {len(unknown)} unknown questions: {name_ids(unknown)}"
        )
    accuracies = {
        q.question_id: answer_accuracy(q.answers, predictions[q.question_id], compat=compat)
        for q in questions
    }
    by_question_type: defaultdict[str, list[float]] = defaultdict(list)
    by_answer_type: defaultdict[str, list[float]] = defaultdict(list)
    for question in questions:
        by_question_type[question.question_type].append(accuracies[question.question_id])
        by_answer_type[question.answer_type].append(accuracies[question.question_id])
    every = list(accuracies.values())
    return AnswerScores(
        overall=_mean(every),
        by_question_type={name: _mean(values) for name, values in by_question_type.items()},
        by_answer_type={name: _mean(values) for name, values in by_answer_type.items()},
        per_question=accuracies,
        overall_percent=_percent(every),
        percent_by_question_type={name: _percent(v) for name, v in by_question_type.items()},
        percent_by_answer_type={name: _percent(v) for name, v in by_answer_type.items()},
    )


def read_vqa_annotations(rows: object) -> list[JudgedQuestion]:
    """Questions from the official `annotations` list; each answer object is one person.

    Raises:
        MetricFileError: A row of another form.
    """
    if not isinstance(rows, list):
        raise MetricFileError("annotations: expected a JSON list")
    questions = []
    for number, row in enumerate(rows):
        try:
            questions.append(
                JudgedQuestion(
                    question_id=str(row["question_id"]),
                    answers=tuple(str(answer["answer"]) for answer in row["answers"]),
                    question_type=str(row.get("question_type", "")),
                    answer_type=str(row.get("answer_type", "")),
                )
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise MetricFileError(
                f"annotations: row {number}: needs 'question_id' and 'answers' ({error})"
            ) from error
    return questions


def read_vqa_results(rows: object) -> dict[str, str]:
    """Answers from the official result list `[{"question_id", "answer"}]`.

    Raises:
        MetricFileError: A row of another form.
        CoverageError: A question answered twice.
    """
    if not isinstance(rows, list):
        raise MetricFileError("results: expected a JSON list")
    answers: dict[str, str] = {}
    for number, row in enumerate(rows):
        try:
            key, answer = str(row["question_id"]), row["answer"]
        except (KeyError, TypeError) as error:
            raise MetricFileError(
                f"results: row {number}: needs 'question_id' and 'answer' ({error})"
            ) from error
        if not isinstance(answer, str):
            raise MetricFileError(f"results: row {number}: 'answer' must be a text")
        if key in answers:
            raise CoverageError(f"results: row {number}: question {key} answered twice")
        answers[key] = answer
    return answers


def main_answer(answers: Sequence[str]) -> str:
    """The answer most people gave, the first of equals; "" where nobody answered."""
    return Counter(answers).most_common(1)[0][0] if answers else ""


def people_of(answers: Sequence[str]) -> tuple[str, ...]:
    """What ten people answered, for the accuracy over ten.

    A data set with one answer a question (GQA, VG-QA) counts as if all had given it, in the form
    that predictions have ("A man." is "man"); else equal answers would differ by their spelling.
    """
    if len(answers) > 1:
        return tuple(answers)
    return tuple(vocabulary_form(answer) for answer in answers) * _NUM_PEOPLE


def soft_score(num_people: int) -> float:
    """Training score of an answer that so many of ten people gave: 0, .3, .6, .9, 1."""
    return SOFT_SCORES[num_people] if num_people < len(SOFT_SCORES) else 1.0


def vocabulary_form(answer: str) -> str:
    """An answer as the vocabulary holds it: normalised, commas deleted.

    Source: tools/compute_softscore.py:preprocess_answer of bottom-up-attention-vqa.
    """
    return normalise_answer(answer).replace(",", "")


def build_answer_vocabulary(
    main_answers: Sequence[str], *, min_questions: int = MIN_QUESTIONS
) -> tuple[str, ...]:
    """Answers that are the main answer of enough questions, in order of first occurrence.

    Args:
        main_answers: `multiple_choice_answer` of every training question.
        min_questions: Answers of fewer questions are left out.
    """
    counts = Counter(vocabulary_form(answer) for answer in main_answers)
    return tuple(answer for answer, count in counts.items() if count >= min_questions)


def soft_targets(
    answers: Sequence[str], vocabulary: Mapping[str, int] | None = None
) -> dict[str, float]:
    """Score of each distinct raw answer, of the vocabulary's only where one is given."""
    return {
        answer: soft_score(count)
        for answer, count in Counter(answers).items()
        if vocabulary is None or answer in vocabulary
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _percent(values: Sequence[float]) -> float:
    """Rounded in the original's order of operations, which decides halves (vqaEval.py)."""
    return round(100 * sum(values) / len(values), 2)
