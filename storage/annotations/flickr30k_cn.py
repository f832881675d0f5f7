"""Flickr30k-CN: `seg.flickr30kzhbbosontrain.caption.txt` and its neighbours.

One caption a line: `<photo>#<kind>#<number>`, a space and the sentence cut into words. Kind `zhb`
is machine translation of train and val, two spaces in it stand for a comma; `zhm` is written by
people, of test, each word with its part of speech behind a colon. The words are joined again.
Splits come in lists of photo names (`ImageSets/flickr30kzhbbosontrain.txt`).
Cite Lan, Li and Dong, ACM MM 2017, github.com/li-xirong/fluency.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from storage.annotations._lines import take_captions_of_kinds
from storage.annotations._rows import Rows
from storage.records import Annotations

SOURCE = "flickr30k_cn"
_PART_OF_SPEECH = re.compile(r":[A-Za-z]+$")
_COMMA = "，"


def read(
    path: Path,
    *,
    split_lists: Mapping[str, Path] | None = None,
    namespace: str = "flickr30k",
    split: str = "auto",
    language: str = "zh",
) -> Annotations:
    """Read all captions.

    Args:
        path: the caption file.
        split_lists: split -> file of photo names; a photo in none of them is set aside.
        namespace: first part of image ids.
        split: of every caption where there are no lists.
        language: of every caption.

    Raises:
        MissingFileError: A file does not exist.
        AnnotationError: A file is not in this layout, or a photo is in two splits.
    """
    rows = Rows(path, namespace=namespace, split=split, language=language, source=SOURCE)
    take_captions_of_kinds(path, rows, split_lists, _sentence)
    return rows.annotations()


def _sentence(kind: str, text: str) -> str:
    return joined_words(text, has_parts_of_speech=kind.startswith("zhm"))


def joined_words(text: str, *, has_parts_of_speech: bool) -> str:
    """The sentence without the spaces between its words."""
    if has_parts_of_speech:
        return "".join(_PART_OF_SPEECH.sub("", word) for word in text.split())
    clauses = ("".join(clause.split()) for clause in re.split(r"\s{2,}", text.strip()))
    return _COMMA.join(filter(None, clauses))
