"""The list of a run's photos: which there are, and in which folder each lies.

Paths are kept relative to numbered folders, so that a moved collection is the same collection;
where the folders are now is told to each stage that opens photos.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from storage.artifacts import atomic_write_text
from storage.errors import DamagedFileError
from storage.records import ImageSource

LIST_NAME = "images.jsonl"


def write_photos(
    folder: Path, photos: Mapping[str, Sequence[ImageSource]], roots: Mapping[str, Path]
) -> None:
    """Write the list, one photo a line.

    Args:
        folder: where the list goes.
        photos: number of a photo folder -> its photos.
        roots: number of a photo folder -> where it is.
    """
    lines = [
        json.dumps(
            {
                "image_id": photo.image_id,
                "folder": number,
                "path": photo.path.relative_to(roots[number]).as_posix(),
            },
            ensure_ascii=False,
        )
        for number, sources in photos.items()
        for photo in sources
    ]
    atomic_write_text(folder / LIST_NAME, "".join(line + "\n" for line in lines))


def read_photos(folder: Path, roots: Mapping[str, Path]) -> list[ImageSource]:
    """The photos of a run, with paths as the folders lie now.

    Raises:
        DamagedFileError: The list is not what `write_photos` wrote.
    """
    path = folder / LIST_NAME
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        rows = [json.loads(line) for line in lines if line]
        return [
            ImageSource(image_id=row["image_id"], path=roots[row["folder"]] / row["path"])
            for row in rows
        ]
    except (OSError, ValueError, KeyError) as error:
        raise DamagedFileError(f"{path}: {error}; delete its folder and run again") from error


def read_photo_ids(folder: Path) -> frozenset[str]:
    """Ids of the photos of a run, wherever the photos lie.

    Raises:
        DamagedFileError: The list is not what `write_photos` wrote.
    """
    path = folder / LIST_NAME
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        return frozenset(str(json.loads(line)["image_id"]) for line in lines if line)
    except (OSError, ValueError, KeyError) as error:
        raise DamagedFileError(f"{path}: {error}; delete its folder and run again") from error
