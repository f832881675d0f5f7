"""Texts that were translated already, by whatever means: a table or JSON lines.

Table (`.tsv`, `.txt`): photo TAB caption, or photo TAB question TAB answer.
JSON lines (`.jsonl`, `.json`): `{"image_id", "caption"}` or `{"image_id", "question", "answer" or
"answers"}`, optionally `"id"` and `"split"`.
A photo is its file name or id without namespace; a number of COCO may lack its leading zeros.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage.annotations._lines import lines_of, read_split_lists, split_of
from storage.annotations._rows import BrokenRowError, Rows, member, text_of
from storage.records import Annotations

_COCO = "coco"
_JSON = frozenset({".jsonl", ".json", ".ndjson"})


def read(
    path: Path,
    *,
    source: str = "translated",
    split_lists: Mapping[str, Path] | None = None,
    namespace: str = _COCO,
    split: str = "auto",
    language: str = "zh",
) -> Annotations:
    """Read captions and questions.

    Args:
        path: the file.
        source: name of the corpus that was translated, for weights and tables.
        split_lists: split -> file of photo names; a photo in none of them is set aside.
        namespace: first part of image ids.
        split: of every text that does not name its own.
        language: of every text.

    Raises:
        MissingFileError: A file does not exist.
        AnnotationError: A file is no text in UTF-8, not one line is in this layout, or a photo is
            in two splits.
    """
    rows = Rows(path, namespace=namespace, split=split, language=language, source=source)
    splits = read_split_lists(split_lists)
    parse = _parsed_json if path.suffix.lower() in _JSON else _parsed_columns
    for number, line in lines_of(path, rows):
        with rows.taking(f"line {number}") as place:
            row = parse(line)
            name = text_of(row, "image_id")
            is_number = namespace == _COCO and name.isdecimal()
            place.image_id = rows.image_id(f"{name:0>12}" if is_number else name)
            own = text_of(row, "id") if "id" in row else f"{path.name}:{number}"
            chosen = split_of(name, splits) or (text_of(row, "split") if "split" in row else None)
            if "question" in row:
                rows.add_question(
                    row["question"],
                    image_id=place.image_id,
                    question_id=own,
                    answers=tuple(rows.cleaned(each, "answer") for each in _answers(row)),
                    split=chosen,
                )
            else:
                key = "caption" if "caption" in row else "text"
                rows.add_caption(
                    member(row, key), image_id=place.image_id, caption_id=own, split=chosen
                )
    return rows.annotations_of_some("a photo and a text")


def _answers(row: Mapping[str, Any]) -> list[Any]:
    found = row.get("answers", row.get("answer", []))
    return found if isinstance(found, list) else [found]


def _parsed_columns(line: str) -> Mapping[str, Any]:
    """A line of a table.

    Raises:
        BrokenRowError: It has neither two nor three columns.
    """
    match line.split("\t"):
        case [name, caption]:
            return {"image_id": name, "caption": caption}
        case [name, question, answer]:
            return {"image_id": name, "question": question, "answer": answer}
    raise BrokenRowError("bad-row", "must be photo, tab, text; or photo, question, answer")


def _parsed_json(line: str) -> Mapping[str, Any]:
    """A line of JSON.

    Raises:
        BrokenRowError: It is no object.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise BrokenRowError("not-json", "not a line of JSON; was it cut?") from None
    if not isinstance(row, dict):
        raise BrokenRowError("bad-row", "must be an object")
    return row
