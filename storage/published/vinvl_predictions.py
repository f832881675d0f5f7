"""Detections of one image as the JSON text of scene_graph_benchmark and of its readers.

`predictions.tsv`  `{"objects": [...], "relations": null}` (the detector program), or
                   `{"image_h", "image_w", "objects": [...]}` (retrieval, pretraining)
`label.tsv`        the bare list of objects (captioning)
An object, keys in this order: `rect` [x1, y1, x2, y2] in pixels of the photo, `bbox_id` from 0,
`class`, `conf`, `feature` (base64 of D little-endian float32), `attributes` (K names) and
`attr_scores` (K numbers); in `label.tsv` `class`, `conf`, `rect`. Text is what Python's `json`
writes by default: ", " and ": " between, everything else than ASCII escaped.

Letters: N objects of one image, K attribute slots, D feature width.
Source: specs/detector.md 7; maskrcnn_benchmark/engine/inference.py of scene_graph_benchmark.
"""

import binascii
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import DamagedFileError
from storage.published.label_maps import NO_ATTRIBUTE
from storage.records import ImageRegions

FLOAT = np.dtype("<f4")
MAX_SIDE = 1_000_000
"""No photo is wider or higher [pixels]."""
IGNORED_KEYS = frozenset({"relations", "gt_objects", "scores_all", "boxes_all", "bbox_id"})
"""What rows may hold beside; `bbox_id` is the place in the list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedObjects:
    """What a row says of its image; what it may leave out is None.

    class_names:      N names
    boxes:            (N, 4) float32  x1, y1, x2, y2 in pixels of the photo
    confidences:      (N,) float32
    features:         (N, D) float32
    attribute_names:  N tuples of K names, with "no attribute" in slots that are spare
    attribute_scores: (N, K) float32
    size:             height and width of the photo [pixels]
    """

    class_names: tuple[str, ...]
    boxes: NDArray[np.float32] | None = None
    confidences: NDArray[np.float32] | None = None
    features: NDArray[np.float32] | None = None
    attribute_names: tuple[tuple[str, ...], ...] | None = None
    attribute_scores: NDArray[np.float32] | None = None
    size: tuple[int, int] | None = None


def published_objects(
    regions: ImageRegions, *, features: NDArray[np.float32] | None = None
) -> PublishedObjects:
    """Our record in the published shape: a name for every attribute slot.

    Args:
        regions: of one image.
        features: (N, D), where they belong into the row.
    """
    slots = regions.attribute_ids.shape[1]
    names, scores = [], np.zeros((len(regions.class_ids), slots), np.float32)
    for row, known in enumerate(regions.attribute_names):
        kept = min(len(known), slots)
        names.append((*known[:kept], *(NO_ATTRIBUTE,) * (slots - kept)))
        scores[row, :kept] = regions.attribute_scores[row, :kept]
    return PublishedObjects(
        class_names=tuple(regions.class_names),
        boxes=regions.boxes,
        confidences=regions.confidences,
        features=features,
        attribute_names=tuple(names) if slots else None,
        attribute_scores=scores if slots else None,
        size=(regions.height, regions.width),
    )


def prediction_text(objects: PublishedObjects) -> str:
    """A row of the detector program's `predictions.tsv`; the size stays out of it."""
    return json.dumps({"objects": _object_list(objects), "relations": None})


def sized_text(objects: PublishedObjects) -> str:
    """A row of `predictions.tsv` as retrieval reads it, of `predictions_gt.tsv` in pretraining.

    Raises:
        ValueError: The size is not known.
    """
    if objects.size is None:
        raise ValueError("a row with the size of its image needs that size")
    height, width = objects.size
    return json.dumps({"image_h": height, "image_w": width, "objects": _object_list(objects)})


def label_text(objects: PublishedObjects) -> str:
    """A row of `label.tsv`."""
    listed = _object_list(objects)
    return json.dumps([{key: each[key] for key in ("class", "conf", "rect")} for each in listed])


def parse_objects(text: str, where: str) -> PublishedObjects:
    """Read a row of any of the layouts.

    Args:
        text: the JSON column.
        where: file and row, for errors.

    Raises:
        DamagedFileError: Not such a row; a key that some objects have and others not; a number
            that is none, NaN or infinity; features that are no base64 or of different widths.
    """
    content = _parsed(text, where)
    is_list = isinstance(content, list)
    listed = content if is_list else content.get("objects")
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise DamagedFileError(f"{where}: 'objects' must be a list of objects")
    columns = _columns(listed, where)
    names = columns.get("class", [])
    if not all(isinstance(name, str) for name in names) or len(names) != len(listed):
        raise DamagedFileError(f"{where}: an object has no name under 'class'")
    attributes, scores = _attributes(columns, where)
    return PublishedObjects(
        class_names=tuple(names),
        boxes=_numbers(columns.get("rect"), 4, "rect", where),
        confidences=_flat(_numbers(_singly(columns.get("conf")), 1, "conf", where)),
        features=_features(columns.get("feature"), where),
        attribute_names=attributes,
        attribute_scores=scores,
        size=None if is_list else _size(content, where),
    )


def _object_list(objects: PublishedObjects) -> list[dict[str, Any]]:
    columns: dict[str, Sequence[Any]] = {}
    if objects.boxes is not None:
        columns["rect"] = objects.boxes.tolist()
        columns["bbox_id"] = range(len(objects.class_names))
    columns["class"] = objects.class_names
    if objects.confidences is not None:
        columns["conf"] = objects.confidences.tolist()
    if objects.features is not None:
        columns["feature"] = [
            b64encode(row.tobytes()).decode() for row in objects.features.astype(FLOAT)
        ]
    if objects.attribute_names is not None and objects.attribute_scores is not None:
        columns["attributes"] = [list(names) for names in objects.attribute_names]
        columns["attr_scores"] = objects.attribute_scores.tolist()
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _parsed(text: str, where: str) -> Any:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{where}: not JSON ({error}); cut?") from error
    if not isinstance(content, dict | list):
        raise DamagedFileError(f"{where}: a JSON object or list was expected")
    return content


def _columns(listed: Sequence[Mapping[str, Any]], where: str) -> dict[str, list[Any]]:
    """Key -> its values in all objects; nothing for a key that none has."""
    keys = dict.fromkeys(chain.from_iterable(listed))
    columns = {key: [each[key] for each in listed if key in each] for key in keys}
    partly = next((key for key, column in columns.items() if len(column) != len(listed)), None)
    if partly is not None and partly not in IGNORED_KEYS:
        raise DamagedFileError(f"{where}: some objects have {partly!r}, others not")
    return columns


def _singly(column: list[Any] | None) -> list[list[Any]] | None:
    return None if column is None else [[value] for value in column]


def _flat(numbers: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    return None if numbers is None else numbers[:, 0]


def _numbers(
    rows: list[Any] | None, width: int, key: str, where: str
) -> NDArray[np.float32] | None:
    """(N, width) float32; None where nobody has the key."""
    if rows is None:
        return None
    for row in rows:
        if not isinstance(row, list) or len(row) != width or not all(map(_is_number, row)):
            raise DamagedFileError(f"{where}: {key!r} must be {width} finite numbers, not {row!r}")
    return np.array(rows, dtype=np.float32).reshape(len(rows), width)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= float(np.finfo(np.float32).max)


def _features(column: list[Any] | None, where: str) -> NDArray[np.float32] | None:
    if column is None:
        return None
    rows = [_feature(text, where) for text in column]
    widths = sorted({len(row) for row in rows})
    if len(widths) > 1:
        raise DamagedFileError(f"{where}: features are {widths[0]} and {widths[-1]} wide; cut?")
    return np.stack(rows).astype(np.float32)


def _feature(text: object, where: str) -> NDArray[np.float32]:
    if not isinstance(text, str):
        raise DamagedFileError(f"{where}: 'feature' must be base64")
    try:
        content = b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DamagedFileError(f"{where}: 'feature' is not base64 ({error}); cut?") from error
    if not content or len(content) % FLOAT.itemsize:
        raise DamagedFileError(f"{where}: 'feature' has {len(content)} bytes, no float32; cut?")
    values = np.frombuffer(content, FLOAT)
    if not np.isfinite(values).all():
        raise DamagedFileError(f"{where}: features hold NaN or infinity")
    return values


def _attributes(
    columns: Mapping[str, list[Any]], where: str
) -> tuple[tuple[tuple[str, ...], ...] | None, NDArray[np.float32] | None]:
    names, scores = columns.get("attributes"), columns.get("attr_scores")
    if names is None or scores is None:
        return None, None
    slots = len(names[0]) if isinstance(names[0], list) else -1
    for row in names:
        is_named = isinstance(row, list) and all(isinstance(name, str) for name in row)
        if not is_named or len(row) != slots:
            raise DamagedFileError(f"{where}: 'attributes' must be equally many names, not {row!r}")
    numbers = _numbers(scores, slots, "attr_scores", where)
    return tuple(tuple(row) for row in names), numbers


def _size(content: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    if "image_h" not in content and "image_w" not in content:
        return None
    return checked_side(content, "image_h", where), checked_side(content, "image_w", where)


def parse_size(text: str, where: str) -> tuple[int, int]:
    """Height and width [pixels] of a row of `hw.tsv`: `[{"height", "width"}]`, an object, "h w".

    Raises:
        DamagedFileError: It is none of them, or no photo is that large.
    """
    words = text.split()
    if len(words) == 2 and all(word.isascii() and word.isdecimal() for word in words):
        content: Any = dict(
            zip(("height", "width"), (int(word[:9]) for word in words), strict=True)
        )
    else:
        content = _parsed(text, where)
        content = content[0] if isinstance(content, list) and content else content
    if not isinstance(content, dict):
        raise DamagedFileError(f"{where}: height and width were expected")
    return checked_side(content, "height", where), checked_side(content, "width", where)


def checked_side(content: Mapping[str, Any], key: str, where: str) -> int:
    """A side of an image [pixels].

    Raises:
        DamagedFileError: It is missing, no number, or no photo is that large.
    """
    side = content.get(key)
    if isinstance(side, bool) or not isinstance(side, int | float) or not 1 <= side <= MAX_SIDE:
        raise DamagedFileError(f"{where}: {key!r} must be a side of the image in pixels")
    return int(side)
