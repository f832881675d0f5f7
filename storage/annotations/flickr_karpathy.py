"""Karpathy's split files: `dataset_flickr8k.json`, `dataset_flickr30k.json`, `dataset_coco.json`.

`{"dataset", "images": [{"filename", "split", "sentences": [{"raw", "sentid", ...}], ...}]}`. The
split "restval" of COCO counts as "train". Karpathy and Fei-Fei, CVPR 2015.
"""

from pathlib import Path

from storage.annotations._rows import (
    BrokenRowError,
    Rows,
    list_of,
    member,
    named,
    read_object,
    text_of,
)
from storage.records import Annotations

_SPLITS = {"train": "train", "restval": "train", "val": "val", "test": "test"}


def read(
    path: Path, *, namespace: str = "flickr8k", split: str = "auto", language: str = "en"
) -> Annotations:
    """Read all captions with the splits of the file; the source is the namespace.

    Args:
        path: the JSON file.
        namespace: first part of image ids.
        split: "auto" takes the file's; another word is given to every caption.
        language: of every caption.

    Raises:
        MissingFileError: There is no such file.
        AnnotationError: It is not in this layout.
    """
    content = read_object(path)
    rows = Rows(path, namespace=namespace, split=split, language=language, source=namespace)
    for row in list_of(path, content, "images"):
        with rows.taking(f"photo {named(row, 'filename')}") as place:
            place.image_id = rows.image_id(text_of(row, "filename"))
            rows.check_new(place.image_id)
            sentences = member(row, "sentences")
            if not isinstance(sentences, list):
                raise BrokenRowError("bad-row", "'sentences' must be a list")
            own = text_of(row, "split") if split == "auto" else split
            if split == "auto" and own not in _SPLITS:
                raise BrokenRowError("in-no-split", f"split {own!r} is not one of {list(_SPLITS)}")
            for sentence in sentences:
                _add(sentence, place.image_id, _SPLITS.get(own, own), rows)
    return rows.annotations()


def _add(sentence: object, image_id: str, split: str, rows: Rows) -> None:
    with rows.taking(f"sentence {named(sentence, 'sentid')}") as place:
        place.image_id = image_id
        rows.add_caption(
            member(sentence, "raw"),
            image_id=image_id,
            caption_id=text_of(sentence, "sentid"),
            split=split,
        )
