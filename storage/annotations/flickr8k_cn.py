"""Flickr8k-CN: `flickr8kzhc.caption.txt` (written by people), `zhb` and `zhg` (by machines), ...

One caption a line: `<photo>.jpg#<kind>#<number>`, a space and the sentence. Splits come in lists
of photo names without suffix (`flickr8ktrain.txt`). Cite Li et al., ICMR 2016.
"""

from collections.abc import Mapping
from pathlib import Path

from storage.annotations._lines import caption_number, lines_of, read_split_lists, split_of
from storage.annotations._rows import BrokenRowError, Rows
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
    splits = read_split_lists(split_lists)
    for number, line in lines_of(path, rows):
        with rows.taking(f"line {number}") as place:
            label, _, text = line.partition(" ")
            parts = label.rsplit("#", 2)
            if len(parts) != 3:
                raise BrokenRowError("bad-row", "must be <photo>#<kind>#<number> and a caption")
            name, kind, index = parts
            place.image_id = rows.image_id(name)
            rows.add_caption(
                text,
                image_id=place.image_id,
                caption_id=f"{name}#{kind}#{caption_number(index)}",
                split=split_of(name, splits),
            )
    return rows.annotations()
