"""Visual Genome questions: `question_answers.json`.

`[{"id", "qas": [{"qa_id", "image_id", "question", "answer"}]}]`; photos are named by their
number. Half of them are COCO's: `image_data.json`, `[{"image_id", "coco_id"}]`, says which.
CC BY 4.0, visualgenome.org.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from storage.annotations._rows import (
    BrokenRowError,
    Rows,
    member,
    named,
    text_of,
    whole_number,
)
from storage.errors import AnnotationError
from storage.json_stream import elements
from storage.records import Annotations

SOURCE = "vg_qa"


def read(
    path: Path,
    *,
    image_data: Path | None = None,
    namespace: str = "visual_genome",
    coco_namespace: str = "coco",
    gqa_namespace: str = "gqa",
    split: str = "auto",
    language: str = "en",
) -> Annotations:
    """Read all questions with their one answer.

    With `image_data` a photo that COCO has, too, goes by its COCO id, so that its questions join
    COCO's photos; where that photo is not there, the one of Visual Genome, or of GQA, will do.

    Args:
        path: the JSON file.
        image_data: `image_data.json`; without it every photo goes by its own number.
        namespace: first part of image ids.
        coco_namespace: of photos that COCO has.
        gqa_namespace: under which the same photos may lie as GQA's.
        split: of every question.
        language: of every question.

    Raises:
        MissingFileError: There is no such file.
        AnnotationError: It is not in this layout.
    """
    rows = Rows(path, namespace=namespace, split=split, language=language, source=SOURCE)
    coco = {} if image_data is None else _coco_numbers(image_data, rows)
    other_ids: dict[str, tuple[str, ...]] = {}
    for image in elements(path, AnnotationError):
        with rows.taking(f"image {named(image, 'id')}"):
            number = text_of(image, "id")
            own, gqa = rows.image_id(number), f"{gqa_namespace}/{number}"
            image_id = f"{coco_namespace}/{coco[number]:012d}" if number in coco else own
            other_ids[image_id] = (own, gqa) if image_id != own else (gqa,)
            asked = member(image, "qas")
            if not isinstance(asked, list):
                raise BrokenRowError("bad-row", "'qas' must be a list")
            for row in asked:
                _add(row, number, image_id, rows)
    return replace(rows.annotations(), other_ids=other_ids)


def _coco_numbers(path: Path, rows: Rows) -> Mapping[str, int]:
    """Number of a photo -> its number in COCO, for those that have one.

    Raises:
        MissingFileError: There is no such file.
        AnnotationError: It is not in this layout.
    """
    numbers: dict[str, int] = {}
    for row in elements(path, AnnotationError):
        with rows.taking(f"{path.name}: image {named(row, 'image_id')}"):
            number = text_of(row, "image_id")
            if row.get("coco_id") is not None:
                numbers[number] = whole_number(row, "coco_id")
    return numbers


def _add(row: object, image: str, image_id: str, rows: Rows) -> None:
    with rows.taking(f"question {named(row, 'qa_id')}") as place:
        place.image_id = image_id
        if text_of(row, "image_id") != image:
            raise BrokenRowError("other-image", f"listed under image {image}")
        rows.add_question(
            member(row, "question"),
            image_id=place.image_id,
            question_id=text_of(row, "qa_id"),
            answers=(rows.cleaned(member(row, "answer"), "answer"),),
        )
