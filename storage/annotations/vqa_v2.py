"""VQA v2: `v2_OpenEnded_mscoco_*_questions.json` with `v2_mscoco_*_annotations.json`.

questions:   `{"questions": [{"question_id", "image_id", "question"}]}`
annotations: `{"annotations": [{"question_id", "image_id", "question_type", "answer_type",
             "answers": [{"answer", ...}] (ten), ...}]}`
Photos are COCO's. CC BY 4.0, visualqa.org.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from storage.annotations._rows import (
    BrokenRowError,
    Rows,
    member,
    named,
    text_of,
)
from storage.errors import AnnotationError
from storage.json_stream import elements_of
from storage.records import Annotations

SOURCE = "vqa_v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answered:
    image: str
    answers: tuple[str, ...]
    question_type: str
    answer_type: str


def read(
    questions: Path,
    *,
    annotations: Path | None = None,
    namespace: str = "coco",
    split: str = "auto",
    language: str = "en",
) -> Annotations:
    """Read all questions and join the answers to them.

    Where there is an annotation file, a question without answers is set aside; without the file
    (the test splits) all questions are kept and have no answers.

    Args:
        questions: the question file.
        annotations: the annotation file.
        namespace: first part of image ids.
        split: of every question.
        language: of every question.

    Raises:
        MissingFileError: A file does not exist.
        AnnotationError: A file is not in this layout.
    """
    rows = Rows(questions, namespace=namespace, split=split, language=language, source=SOURCE)
    answered = None if annotations is None else _answers(annotations, rows)
    asked = set()
    for row in elements_of(questions, "questions", AnnotationError):
        with rows.taking(f"question {named(row, 'question_id')}") as place:
            place.image_id = rows.coco_image_id(row)
            number = text_of(row, "question_id")
            asked.add(number)
            facts = _facts(number, place.image_id, answered, rows)
            rows.add_question(
                member(row, "question"),
                image_id=place.image_id,
                question_id=number,
                answers=facts.answers,
                question_type=facts.question_type,
                answer_type=facts.answer_type,
            )
    for number, facts in (answered or {}).items():
        if number not in asked:
            detail = f"answers to question {number}, which is not in the question file"
            rows.drop(facts.image, "unknown-question", detail)
    return rows.annotations()


def _facts(
    number: str, image: str, answered: Mapping[str, _Answered] | None, rows: Rows
) -> _Answered:
    if answered is None:
        return _Answered(image=image, answers=(), question_type="", answer_type="")
    facts = answered.get(number)
    if facts is None:
        raise BrokenRowError("no-answers", "no answers in the annotation file")
    if facts.image != image:
        raise BrokenRowError("other-image", f"its answers are about image {facts.image!r}")
    if not facts.answers:
        raise BrokenRowError("no-answers", "its list of answers is empty")
    return facts


def _answers(path: Path, rows: Rows) -> dict[str, _Answered]:
    """Question id -> what people answered."""
    answered: dict[str, _Answered] = {}
    words: dict[str, str] = {}  # each answer once: people say "yes" a million times
    for row in elements_of(path, "annotations", AnnotationError):
        with rows.taking(f"{path.name}: question {named(row, 'question_id')}") as place:
            place.image_id = rows.coco_image_id(row)
            number = text_of(row, "question_id")
            rows.check_new(f"answers {number}")
            given = member(row, "answers")
            if not isinstance(given, list):
                raise BrokenRowError("bad-row", "'answers' must be a list")
            answered[number] = _Answered(
                image=place.image_id,
                answers=tuple(
                    words.setdefault(answer, answer)
                    for each in given
                    for answer in [rows.cleaned(member(each, "answer"), "answer")]
                ),
                question_type=_word(row, "question_type"),
                answer_type=_word(row, "answer_type"),
            )
    return answered


def _word(row: object, key: str) -> str:
    value = row.get(key) if isinstance(row, dict) else None
    return value if isinstance(value, str) else ""
