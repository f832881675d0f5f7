"""Captions of Flickr8k and Flickr30k: `Flickr8k.token.txt`, `results_20130124.token`.

One caption a line: `<photo>.jpg#<number>` TAB text. Splits come in lists of photo names, one a
line (`Flickr_8k.trainImages.txt`). For research; cite Hodosh et al. 2013, Young et al. 2014.
"""

from collections.abc import Mapping
from pathlib import Path

from storage.annotations._lines import take_captions
from storage.annotations._rows import Rows
from storage.records import Annotations


def read(
    path: Path,
    *,
    split_lists: Mapping[str, Path] | None = None,
    namespace: str = "flickr8k",
    split: str = "auto",
    language: str = "en",
) -> Annotations:
    """Read all captions; the source is the namespace.

    Args:
        path: the token file.
        split_lists: split -> file of photo names; a photo in none of them is set aside.
        namespace: first part of image ids.
        split: of every caption where there are no lists.
        language: of every caption.

    Raises:
        MissingFileError: A file does not exist.
        AnnotationError: A file is not in this layout, or a photo is in two splits.
    """
    rows = Rows(path, namespace=namespace, split=split, language=language, source=namespace)
    take_captions(path, rows, split_lists)
    return rows.annotations()
