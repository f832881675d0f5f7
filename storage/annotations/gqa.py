"""GQA questions: `train_balanced_questions.json` and files in its layout, or a folder of them.

The folder is `train_all_questions` with its ten files `train_all_questions_0.json`, ...; they are
read one question after the other.

`{question id: {"question", "imageId", "answer", "types": {"structural", "semantic", "detailed"},
...}}`; `imageId` is the photo's name without suffix. The test splits have no answers. Programs,
groups and full answers are not read. CC BY 4.0, cs.stanford.edu/people/dorarad/gqa.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from storage.annotations._rows import BrokenRowError, Rows, member, named, text_of
from storage.errors import AnnotationError, MissingFileError
from storage.json_stream import members_of
from storage.records import Annotations

SOURCE = "gqa"


def read(
    path: Path,
    *,
    namespace: str = "gqa",
    genome_namespace: str = "visual_genome",
    split: str = "auto",
    language: str = "en",
) -> Annotations:
    """Read all questions; the question type is GQA's structural type.

    Args:
        path: the JSON file, or a folder of such files.
        namespace: first part of image ids.
        genome_namespace: under which the same photos may lie as Visual Genome's.
        split: of every question.
        language: of every question.

    Raises:
        MissingFileError: There is no such file.
        AnnotationError: It is not in this layout.
    """
    rows = Rows(path, namespace=namespace, split=split, language=language, source=SOURCE)
    other_ids: dict[str, tuple[str, ...]] = {}
    for file in _files(path):
        for number, row in members_of(file, AnnotationError):
            with rows.taking(f"question {named({'id': number}, 'id')}") as place:
                photo = text_of(row, "imageId")
                place.image_id = rows.image_id(photo)
                if photo.isdecimal() and place.image_id not in other_ids:
                    other_ids[place.image_id] = (f"{genome_namespace}/{photo}",)
                _add(number, row, place.image_id, rows)
    return replace(rows.annotations(), other_ids=other_ids)


def _files(path: Path) -> list[Path]:
    """The file, or the JSON files of the folder by name.

    Raises:
        MissingFileError: The folder has none.
    """
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.json"), key=lambda file: (len(file.name), file.name))
    if not found:
        raise MissingFileError(f"{path}: a folder without JSON files; check the path")
    return found


def _add(number: str, row: Mapping[str, Any], image_id: str, rows: Rows) -> None:
    types = row.get("types")
    kind = types.get("structural") if isinstance(types, dict) else None
    rows.add_question(
        member(row, "question"),
        image_id=image_id,
        question_id=number,
        answers=_answers(row, rows),
        question_type=kind if isinstance(kind, str) else "",
    )


def _answers(row: object, rows: Rows) -> tuple[str, ...]:
    """The answer; none where the key is absent, as in the test splits."""
    if not isinstance(row, dict) or "answer" not in row:
        return ()
    answer = row["answer"]
    if not isinstance(answer, str):
        raise BrokenRowError("no-answers", "the answer is not text")
    return (rows.cleaned(answer, "answer"),)
