"""What people said about the images of a run, in shards of four kinds in one folder."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from storage.manifest import MANIFEST_NAME, Manifest, ShardEntry, read_manifest
from storage.places import Place
from storage.records import (
    Annotations,
    CaptionAnnotation,
    ImageObjects,
    ImagePairAnnotation,
    QuestionAnnotation,
)
from storage.shards import finish, read_records, write_records

KIND = "annotations"
_ROWS_PER_SHARD = 65_536
_ROWS_PER_GROUP = 8_192


def write_annotations(place: str | Path, annotations: Annotations) -> Manifest:
    """Write captions, questions, pairs and objects, the manifest last.

    What was quarantined is not written (`storage.quarantine`); what the folder held before is
    replaced.

    Raises:
        OSError: Disk full, no permission, ...
    """
    where = Place(place)
    where.remove(MANIFEST_NAME)
    rows: Mapping[str, Iterator[dict[str, Any]]] = {
        "captions": map(asdict, annotations.captions),
        "questions": map(asdict, annotations.questions),
        "pairs": map(asdict, annotations.pairs),
        "objects": map(_object_row, annotations.objects),
    }
    entries: list[ShardEntry] = []
    for kind, each in rows.items():
        entries += write_records(
            where,
            kind,
            {},
            each,
            rows_per_shard=_ROWS_PER_SHARD,
            rows_per_group=_ROWS_PER_GROUP,
        )
    return finish(where, KIND, {}, entries)


def read_annotations(place: str | Path) -> Annotations:
    """Everything `write_annotations` wrote, in its order.

    Raises:
        MissingFileError: The folder is incomplete.
        DamagedFileError: A shard is missing, cut or changed; it is named.
    """
    where = Place(place)
    manifest = read_manifest(where, KIND)

    def rows(kind: str) -> Iterator[dict[str, Any]]:
        return read_records(where, manifest.of_kind(kind), kind)

    return Annotations(
        captions=tuple(CaptionAnnotation(**row) for row in rows("captions")),
        questions=tuple(
            QuestionAnnotation(**{**row, "answers": tuple(row["answers"])})
            for row in rows("questions")
        ),
        pairs=tuple(ImagePairAnnotation(**row) for row in rows("pairs")),
        objects=tuple(map(_objects, rows("objects"))),
    )


def _object_row(objects: ImageObjects) -> dict[str, Any]:
    return {
        "image_id": objects.image_id,
        "height": objects.height,
        "width": objects.width,
        "boxes": objects.boxes.tolist(),
        "class_names": list(objects.class_names),
        "attributes": [list(names) for names in objects.attributes],
        "is_crowd": objects.is_crowd.tolist(),
        "split": objects.split,
        "source": objects.source,
    }


def _objects(row: dict[str, Any]) -> ImageObjects:
    return ImageObjects(
        image_id=row["image_id"],
        height=row["height"],
        width=row["width"],
        boxes=np.array(row["boxes"], dtype=np.float32).reshape(-1, 4),
        class_names=tuple(row["class_names"]),
        attributes=tuple(map(tuple, row["attributes"])),
        is_crowd=np.array(row["is_crowd"], dtype=np.bool_),
        split=row["split"],
        source=row["source"],
    )
