"""NLVR2 statements about two photos: `train.json`, `dev.json`, `test1.json`; one object a line.

`{"identifier": "dev-850-0-1", "sentence", "label": "True" | "False", ...}`: statement 1 about the
pair `dev-850-0`, whose photos are named `dev-850-0-img0` (left) and `dev-850-0-img1` (right).
Sentences and labels CC BY 4.0, github.com/lil-lab/nlvr.
"""

import json
from dataclasses import replace
from pathlib import Path

from storage.annotations._lines import lines_of
from storage.annotations._rows import BrokenRowError, Rows, member, text_of
from storage.errors import AnnotationError
from storage.records import Annotations, ImagePairAnnotation

SOURCE = "nlvr2"

_LABELS = {"True": True, "False": False, "true": True, "false": False}


def read(
    path: Path, *, namespace: str = "nlvr2", split: str = "auto", language: str = "en"
) -> Annotations:
    """Read all statements.

    Args:
        path: the file of JSON lines.
        namespace: first part of image ids.
        split: of every statement.
        language: of every statement.

    Raises:
        MissingFileError: There is no such file.
        AnnotationError: Not one line of it is a statement.
    """
    rows = Rows(path, namespace=namespace, split=split, language=language, source=SOURCE)
    pairs: list[ImagePairAnnotation] = []
    for number, line in lines_of(path, rows):
        with rows.taking(f"line {number}") as place:
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                where = f"not JSON at character {error.pos} ({error.msg})"
                raise BrokenRowError("not-json", f"{where}; was it cut?") from error
            except (RecursionError, ValueError):
                raise BrokenRowError("not-json", "JSON too deep, or a number too long") from None
            identifier = text_of(row, "identifier")
            pair, dash, statement = identifier.rpartition("-")
            if not dash or not pair or not statement:
                raise BrokenRowError("bad-row", f"identifier {identifier!r} has no pair and number")
            place.image_id = rows.image_id(f"{pair}-img0.png")
            label = member(row, "label")
            if not isinstance(label, bool | str) or str(label) not in _LABELS:
                raise BrokenRowError("bad-row", f"label {label!r} is neither True nor False")
            sentence = rows.cleaned(member(row, "sentence"), "sentence", place.image_id, identifier)
            rows.check_new(identifier)
            pairs.append(
                ImagePairAnnotation(
                    pair_id=identifier,
                    left_image_id=place.image_id,
                    right_image_id=rows.image_id(f"{pair}-img1.png"),
                    sentence=sentence,
                    is_true=_LABELS[str(label)],
                    language=language,
                    split=split,
                    source=SOURCE,
                )
            )
    if not pairs:
        raise AnnotationError(f"{path}: no line is a statement; {rows.quarantined[0].detail}")
    return replace(rows.annotations(), pairs=tuple(pairs))
