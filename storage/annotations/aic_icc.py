"""AIC-ICC, the Chinese captions of AI Challenger 2017, in its two layouts.

Training: `caption_train_annotations_20170902.json`, `[{"image_id": "<name>.jpg", "caption":
[five sentences], "url"}]`; a single sentence instead of the list is a submission, read alike.
References of the evaluation program: COCO's caption layout, `images[].file_name` without suffix,
`image_id` a number made from it, captions segmented by spaces, which are taken out again.
AI Challenger, challenger.ai (2017).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage.annotations._coco import image_of, read_images
from storage.annotations._rows import BrokenRowError, Rows, list_of, member, named, text_of
from storage.errors import AnnotationError
from storage.json_files import read_json
from storage.records import Annotations

SOURCE = "aic_icc"


def read(
    path: Path, *, namespace: str = "aic_icc", split: str = "auto", language: str = "zh"
) -> Annotations:
    """Read all captions.

    Args:
        path: the JSON file, of either layout.
        namespace: first part of image ids.
        split: of every caption.
        language: of every caption.

    Raises:
        MissingFileError: There is no such file.
        AnnotationError: It is in neither layout.
    """
    content = read_json(path, AnnotationError)
    rows = Rows(path, namespace=namespace, split=split, language=language, source=SOURCE)
    if isinstance(content, list):
        _read_training(content, rows)
    elif isinstance(content, dict):
        _read_references(path, content, rows)
    else:
        raise AnnotationError(f"{path}: a list of captions was expected, or COCO's layout")
    return rows.annotations()


def _read_training(content: list[Any], rows: Rows) -> None:
    for position, row in enumerate(content):
        with rows.taking(f"row {position}") as place:
            name = text_of(row, "image_id")
            place.image_id = rows.image_id(name)
            rows.check_new(place.image_id)
            captions = member(row, "caption")
            for number, caption in enumerate(
                captions if isinstance(captions, list) else [captions]
            ):
                with rows.taking(f"row {position}, caption {number}") as each:
                    each.image_id = place.image_id
                    rows.add_caption(
                        caption, image_id=place.image_id, caption_id=f"{name}#{number}"
                    )


def _read_references(path: Path, content: Mapping[str, Any], rows: Rows) -> None:
    # the file repeats an image for each of its captions; once is enough
    images = {str(row): row for row in list_of(path, content, "images")}
    table = read_images(path, {"images": list(images.values())}, rows)
    for row in list_of(path, content, "annotations"):
        with rows.taking(f"annotation {named(row, 'id')}") as place:
            place.image_id = image_of(row, table).image_id
            caption = member(row, "caption")
            if not isinstance(caption, str):
                raise BrokenRowError("not-text", "the caption is not text")
            rows.add_caption(
                "".join(caption.split()), image_id=place.image_id, caption_id=text_of(row, "id")
            )
