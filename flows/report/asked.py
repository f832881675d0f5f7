"""Questions with answers, kind by kind, each kind against its commonest answer and the controls."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flows.report.album import Album, spread
from flows.report.finished import FinishedStep, read_rows
from flows.report.measures import ROLE_LABELS, verdict
from flows.report.records import Bar, QuestionExample, QuestionKind, Role
from oscar_core.metrics.answers import answer_accuracy, main_answer, people_of
from storage.records import Annotations, QuestionAnnotation

MAX_KINDS = 9
"""More kinds than this are counted by the kind of their answer."""


_Known = dict[str, list[QuestionAnnotation]]
"""Id -> a question in each language in which it is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answered:
    """One question of the test set; given: answer by control."""

    question_id: str
    image_id: str
    question: str
    kind: str
    answers: tuple[str, ...]
    given: Mapping[Role, str]

    def accuracy(self, role: Role) -> float:
        return answer_accuracy(self.answers, self.given.get(role, ""))


def question_kinds(
    step: FinishedStep | None, annotations: Annotations, album: Album, num: int
) -> tuple[QuestionKind, ...]:
    """All kinds, most frequent first; () where nothing was predicted."""
    known: _Known = {}
    for question in annotations.questions:
        known.setdefault(question.question_id, []).append(question)
    answered = _read(step, known) if step is not None else []
    spoken = {_asked(known, each.question_id, each.question).language for each in answered}
    train = [
        each
        for each in annotations.questions
        if each.split == "train" and each.answers and each.language in spoken
    ]
    by_answer = len({each.kind for each in answered}) > MAX_KINDS
    if by_answer:
        answered = [_by_answer_type(each, known) for each in answered]
    kinds = Counter(each.kind for each in answered)
    return tuple(
        _kind(
            kind,
            [each for each in answered if each.kind == kind],
            _commonest(
                each
                for each in train
                if (each.answer_type if by_answer else each.question_type) == kind
            ),
            album,
            num,
        )
        for kind, _ in sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0]))
    )


def _read(step: FinishedStep, known: _Known) -> list[_Answered]:
    folder = step.folder / "predictions"
    controls: dict[Role, dict[str, str]] = {
        role: {
            str(row.get("question_id")): str(row.get("answer", ""))
            for row in read_rows(folder / f"{role}.jsonl")
        }
        for role in ("features_shuffled", "shuffled")
    }
    found = []
    for row in read_rows(folder / "right.jsonl"):
        key = str(row.get("question_id"))
        if key not in known:
            continue
        asked = _asked(known, key, str(row.get("question", "")))
        if not asked.answers:
            continue
        given: dict[Role, str] = {"right": str(row.get("answer", ""))}
        given |= {role: table[key] for role, table in controls.items() if key in table}
        found.append(
            _Answered(
                question_id=key,
                image_id=str(row.get("image_id", "")),
                question=str(row.get("question", "")),
                kind=str(row.get("question_type", "")),
                answers=people_of(asked.answers),
                given=given,
            )
        )
    return found


def _asked(known: _Known, question_id: str, text: str) -> QuestionAnnotation:
    """The question of that id, in the language in which it was asked."""
    questions = known[question_id]
    return next((each for each in questions if each.question == text), questions[-1])


def _by_answer_type(answered: _Answered, known: _Known) -> _Answered:
    question = _asked(known, answered.question_id, answered.question)
    return _Answered(
        question_id=answered.question_id,
        image_id=answered.image_id,
        question=answered.question,
        kind=question.answer_type,
        answers=answered.answers,
        given=answered.given,
    )


def _commonest(questions: Iterable[QuestionAnnotation]) -> str | None:
    """The answer that is the main one of most questions; equal counts by name."""
    counts: Counter[str] = Counter()
    for question in questions:
        counts[main_answer(question.answers)] += 1
    return min(counts, key=lambda answer: (-counts[answer], answer)) if counts else None


def _kind(
    kind: str, answered: Sequence[_Answered], commonest: str | None, album: Album, num: int
) -> QuestionKind:
    right = _mean(each.accuracy("right") for each in answered)
    values: list[tuple[Role, float]] = [("right", right)]
    for role in ("features_shuffled", "shuffled"):
        if all(role in each.given for each in answered):
            values.append((role, _mean(each.accuracy(role) for each in answered)))
    if commonest is not None:
        guess = _mean(answer_accuracy(each.answers, commonest) for each in answered)
        values.append(("majority", guess))
    labels = {**ROLE_LABELS, "majority": f"always {commonest}"}
    controls = [(labels[role], value) for role, value in values[1:]]
    sentence, is_above = verdict(right, controls, len(answered))
    return QuestionKind(
        kind=kind or "without a kind",
        num_questions=len(answered),
        bars=tuple(
            Bar(role=role, label=labels[role], value=value, length=min(1.0, value))
            for role, value in values
        ),
        accuracy=right,
        verdict=sentence,
        is_above=is_above,
        examples=tuple(
            QuestionExample(
                picture=album.thumb(each.image_id),
                question=each.question,
                answer=each.given["right"],
                expected=main_answer(each.answers),
                accuracy=each.accuracy("right"),
            )
            for each in spread(answered, num)
        ),
    )


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return float(sum(found) / len(found)) if found else 0.0
