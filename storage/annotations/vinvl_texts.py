"""Texts of VinVL's pretraining corpora (`coco_flickr30k_gqa.tsv`, `googlecc_sbu_oi.tsv`, ...).

Three columns: image key, label key, caption or question (`storage.published.vinvl_names`). The
answers lie in `QA_fileB.tsv`, one file a data set. For Conceptual Captions, SBU and Open Images,
whose photos are one's own; with VinVL's features the step `import_corpus` reads all of it.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from storage.annotations._rows import BrokenRowError, Rows
from storage.errors import DamagedFileError
from storage.published.tsv import TsvReader
from storage.published.vinvl_names import ImageKey, parse_image_key, parse_label_key
from storage.records import Annotations

_COCO = "coco"


def read(
    path: Path,
    *,
    answers: Mapping[str, Path] | None = None,
    datasets: str = "",
    split: str = "auto",
    language: str = "en",
) -> Annotations:
    """Read captions and questions; source and first part of image ids are the data set's name.

    Image ids are `coco/<12 digits>`, `flickr30k/<id>`, `gqa/<id>`, `googlecc/<chunk>/<id>`.

    Args:
        path: the table.
        answers: data set -> `QA_fileB.tsv`; questions without one have no answers.
        datasets: names joined by `_`, as in the yaml; rows of others are left out. "": all.
        split: of every text.
        language: of every text.

    Raises:
        MissingFileError: A file does not exist.
        AnnotationError: Not one row is in this layout.
        DamagedFileError: The index of a table does not fit.
    """
    wanted = set(datasets.split("_")) if datasets else None
    tables = {name: TsvReader(place) for name, place in (answers or {}).items()}
    numbers = {name: table.rows_by_key() for name, table in tables.items()}
    rows = Rows(path, namespace="", split=split, language=language, source="vinvl_texts")
    table = TsvReader(path)
    for number in range(len(table)):
        with rows.taking(f"row {number}") as place:
            fields = _fields(table, number)
            key = parse_image_key(fields[0])
            label = parse_label_key(fields[1]) if len(fields) > 2 else None
            if key is None or label is None:
                raise BrokenRowError("bad-row", "must be image key, label key and a text")
            if wanted is not None and key.dataset not in wanted:
                continue
            place.image_id = image_id_of(key)
            if (label.dataset, label.image) != (key.dataset, key.image):
                raise BrokenRowError("other-image", f"label key {fields[1]!r}")
            source = f"{key.dataset}_qa" if label.question else key.dataset
            own = f"{fields[1]}#{number}"
            if not label.question:
                rows.add_caption(fields[2], image_id=place.image_id, caption_id=own, source=source)
                continue
            found: tuple[str, ...] = ()
            if key.dataset in tables:
                found = _answers(tables[key.dataset], numbers[key.dataset], label.question)
            rows.add_question(
                fields[2],
                image_id=place.image_id,
                question_id=own,
                answers=found,
                source=source,
            )
    return rows.annotations_of_some("an image key, a label key and a text")


def image_id_of(key: ImageKey) -> str:
    """An image id as readers of the data set itself write it."""
    if key.dataset == _COCO and key.image.isdecimal():
        return f"{_COCO}/{key.image:0>12}"
    return key.image_id


def _fields(table: TsvReader, number: int) -> tuple[str, ...]:
    try:
        return table[number]
    except DamagedFileError as error:
        raise BrokenRowError("not-utf8", "bytes that are not UTF-8") from error


def _answers(table: TsvReader, numbers: Mapping[str, int], question: str) -> tuple[str, ...]:
    """The answers of a question as one text, as pretraining joins them.

    Raises:
        BrokenRowError: There are none.
    """
    if question not in numbers:
        raise BrokenRowError("no-answers", f"question {question!r} is not in the list of answers")
    try:
        labels = json.loads(table[numbers[question]][1])["labels"]
        found = " ".join(labels)
    except (ValueError, KeyError, TypeError, IndexError, DamagedFileError):
        raise BrokenRowError("no-answers", f"question {question!r}: no list 'labels'") from None
    if not found.strip():
        raise BrokenRowError("no-answers", f"question {question!r} has no answer")
    return (found,)
