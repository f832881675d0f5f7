"""Visual Genome questions: `question_answers.json`.

`[{"id", "qas": [{"qa_id", "image_id", "question", "answer"}]}]`; photos are named by their
number. CC BY 4.0, visualgenome.org.
"""

from pathlib import Path

from storage.annotations._rows import BrokenRowError, Rows, member, named, read_list, text_of
from storage.records import Annotations

SOURCE = "vg_qa"


def read(
    path: Path,
    *,
    namespace: str = "visual_genome",
    split: str = "auto",
    language: str = "en",
) -> Annotations:
    """Read all questions with their one answer.

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
    for image in read_list(path):
        with rows.taking(f"image {named(image, 'id')}"):
            asked = member(image, "qas")
            if not isinstance(asked, list):
                raise BrokenRowError("bad-row", "'qas' must be a list")
            for row in asked:
                _add(row, text_of(image, "id"), rows)
    return rows.annotations()


def _add(row: object, image: str, rows: Rows) -> None:
    with rows.taking(f"question {named(row, 'qa_id')}") as place:
        place.image_id = rows.image_id(image)
        if text_of(row, "image_id") != image:
            raise BrokenRowError("other-image", f"listed under image {image}")
        rows.add_question(
            member(row, "question"),
            image_id=place.image_id,
            question_id=text_of(row, "qa_id"),
            answers=(rows.cleaned(member(row, "answer"), "answer"),),
        )
