"""GQA questions: `train_balanced_questions.json` and files in its layout.

`{question id: {"question", "imageId", "answer", "types": {"structural", "semantic", "detailed"},
...}}`; `imageId` is the photo's name without suffix. The test splits have no answers. Programs,
groups and full answers are not read. CC BY 4.0, cs.stanford.edu/people/dorarad/gqa.
"""

from pathlib import Path

from storage.annotations._rows import BrokenRowError, Rows, member, named, read_object, text_of
from storage.records import Annotations

SOURCE = "gqa"


def read(
    path: Path, *, namespace: str = "gqa", split: str = "auto", language: str = "en"
) -> Annotations:
    """Read all questions; the question type is GQA's structural type.

    Args:
        path: the JSON file.
        namespace: first part of image ids.
        split: of every question.
        language: of every question.

    Raises:
        MissingFileError: There is no such file.
        AnnotationError: It is not in this layout.
    """
    rows = Rows(path, namespace=namespace, split=split, language=language, source=SOURCE)
    for number, row in read_object(path).items():
        with rows.taking(f"question {named({'id': number}, 'id')}") as place:
            place.image_id = rows.image_id(text_of(row, "imageId"))
            types = row.get("types")
            kind = types.get("structural") if isinstance(types, dict) else None
            rows.add_question(
                member(row, "question"),
                image_id=place.image_id,
                question_id=number,
                answers=_answers(row, rows),
                question_type=kind if isinstance(kind, str) else "",
            )
    return rows.annotations()


def _answers(row: object, rows: Rows) -> tuple[str, ...]:
    """The answer; none where the key is absent, as in the test splits."""
    if not isinstance(row, dict) or "answer" not in row:
        return ()
    answer = row["answer"]
    if not isinstance(answer, str):
        raise BrokenRowError("no-answers", "the answer is not text")
    return (rows.cleaned(answer, "answer"),)
