"""Flickr8k-CN: `flickr8kzhc.caption.txt` (written by people), `zhb` and `zhg` (by machines), ...

One caption a line: `<photo>.jpg#<kind>#<number>`, a space and the sentence. Splits come in lists
of photo names without suffix (`flickr8ktrain.txt`). Cite Li et al., ICMR 2016.
"""

from collections.abc import Mapping
from pathlib import Path

from storage.annotations._lines import take_captions_of_kinds
from storage.annotations._rows import Rows
from storage.records import Annotations

SOURCE = "flickr8k_cn"


def read(
    path: Path,
    *,
    split_lists: Mapping[str, Path] | None = None,
    namespace: str = "flickr8k",
    split: str = "auto",
    language: str = "zh",
) -> Annotations:
    """Read all captions.

    Args:
        path: the caption file.
        split_lists: split -> file of photo names; a photo in none of them is set aside.
        namespace: first part of image ids.
        split: of every caption where there are no lists.
        language: of every caption; "en" for `flickr8kenc`.

    Raises:
        MissingFileError: A file does not exist.
        AnnotationError: A file is not in this layout, or a photo is in two splits.
    """
    rows = Rows(path, namespace=namespace, split=split, language=language, source=SOURCE)
    take_captions_of_kinds(path, rows, split_lists, lambda _, text: text)
    return rows.annotations()
