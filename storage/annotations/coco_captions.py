"""COCO captions: `captions_train2017.json` and files in its layout.

`{"images": [{"id", "file_name", ...}], "annotations": [{"id", "image_id", "caption"}]}`; an image
id is the number of the twelve-digit file name. Annotations CC BY 4.0, cocodataset.org.
"""

from pathlib import Path

from storage.annotations._coco import image_of, read_images
from storage.annotations._rows import Rows, list_of, member, named, read_object, text_of
from storage.records import Annotations

SOURCE = "coco_captions"


def read(
    path: Path, *, namespace: str = "coco", split: str = "auto", language: str = "en"
) -> Annotations:
    """Read all captions.

    Args:
        path: the JSON file.
        namespace: first part of image ids.
        split: of every caption.
        language: of every caption.

    Raises:
        MissingFileError: There is no such file.
        AnnotationError: It is not in this layout.
    """
    content = read_object(path)
    rows = Rows(path, namespace=namespace, split=split, language=language, source=SOURCE)
    images = read_images(path, content, rows)
    for row in list_of(path, content, "annotations"):
        with rows.taking(f"annotation {named(row, 'id')}") as place:
            place.image_id = image_of(row, images).image_id
            rows.add_caption(
                member(row, "caption"), image_id=place.image_id, caption_id=text_of(row, "id")
            )
    return rows.annotations()
