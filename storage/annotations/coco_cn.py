"""COCO-CN: Chinese sentences about COCO photos, `imageid.human-caption.txt` and its extension.

One sentence a line: `COCO_<split2014>_<12 digits>#<number>` TAB sentence; train2014 and val2014
photos have the numbers of the 2017 division. Splits come in lists of the same names
(`coco-cn_train.txt`). Li et al., 2019, github.com/li-xirong/coco-cn.
"""

from collections.abc import Mapping
from pathlib import Path

from storage.annotations._lines import take_captions
from storage.annotations._rows import Rows
from storage.records import Annotations

SOURCE = "coco_cn"


def read(
    path: Path,
    *,
    split_lists: Mapping[str, Path] | None = None,
    namespace: str = "coco",
    split: str = "auto",
    language: str = "zh",
) -> Annotations:
    """Read all sentences.

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
    take_captions(path, rows, split_lists)
    return rows.annotations()
