"""The records that travel between rooms.

Letters: N regions of one image, K attributes kept per region, D feature width.
Boxes are x1, y1, x2, y2 in pixels of the original image; x2 and y2 lie inside the box.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import RecordError

HEIGHT_FIRST = "height_first"
"""Order of the last two numbers of the region geometry: x1/W, y1/H, x2/W, y2/H, h/H, w/W."""
WIDTH_FIRST = "width_first"
"""The same with w/W, h/H; what Oscar issue 10 and the VinVL wrappers write. Default."""
INCLUDED = "included"
"""Features end with the six numbers already, as published feature files have them."""


_BITS: Mapping[np.dtype[Any], tuple[np.dtype[Any], np.dtype[Any], int, int]] = {
    np.dtype(np.float16): (np.dtype(np.uint16), np.dtype(np.int16), 0x7C00, 0xFC00),
    np.dtype(np.float32): (np.dtype(np.uint32), np.dtype(np.int32), 0x7F800000, 0xFF800000),
}
"""Integers of equal width, and infinity and minus infinity seen as the unsigned ones.

Above either lie the NaN of its sign. As signed integers all that have a sign are negative.
"""


def _is_finite(numbers: NDArray[np.floating]) -> bool:
    """No NaN and no infinity, by the largest bits: quicker than numpy's own test."""
    known = _BITS.get(numbers.dtype)
    if known is None or not numbers.size or not numbers.flags.c_contiguous:
        return bool(np.isfinite(numbers).all())
    unsigned, signed, infinity, minus_infinity = known
    largest = int(numbers.view(unsigned).max())
    if largest < infinity:  # none has a sign: features after a ReLU
        return True
    return largest < minus_infinity and int(numbers.view(signed).max()) < infinity


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Where in a file the bytes of one photo stand: a member of a tar, or a row of a table.

    start, num_bytes: of the stretch
    is_row:           it is a row of fields between tabs, the last of them the photo in base64
    """

    start: int
    num_bytes: int
    is_row: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Where in a Parquet file a photo stands.

    group, row: row group, and row inside it
    column:     of the bytes, with dots where it lies inside another
    """

    group: int
    row: int
    column: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSource:
    """One photo to be read; `image_id` is what annotations join on.

    path: a file; a text is a URL of fsspec
    part: which part of the file is the photo; None: all of it
    size: height and width [pixels], as the collection says; None where it does not
    """

    image_id: str
    path: Path | str
    part: Stretch | Cell | None = None
    size: tuple[int, int] | None = None

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        if isinstance(self.part, Stretch):
            what = "row" if self.part.is_row else "member"
            return f"{self.path}, {what} at byte {self.part.start}"
        if isinstance(self.part, Cell):
            return f"{self.path}, row {self.part.row} of row group {self.part.group}"
        return str(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedImage:
    """One photo in memory.

    pixels:       (H, W, 3) uint8  RGB as stored (EXIF orientation is not applied: boxes of
                  published annotations refer to the stored pixels)
    content_hash: SHA-256 of the file's bytes, hexadecimal
    """

    image_id: str
    pixels: NDArray[np.uint8]
    content_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A thing that could not be used, and why. in = out + quarantined.

    reason: short stable slug for counting; detail: one line for the user, names file and key.
    """

    image_id: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRegions:
    """What the detector saw in one image, by falling confidence.

    height, width:    original size [pixels]
    boxes:            (N, 4) float32
    features:         (N, D) float16 or float32
    class_ids:        (N,) int16     1.. of the label map; 0 (background) never stored
    confidences:      (N,) float32   in [0, 1]
    attribute_ids:    (N, K) int16   1.., 0 = empty slot, by falling score
    attribute_scores: (N, K) float32 0 in empty slots
    class_names:      N English names of `class_ids`
    attribute_names:  N tuples, one name per filled slot
    """

    image_id: str
    content_hash: str
    height: int
    width: int
    boxes: NDArray[np.float32]
    features: NDArray[np.floating]
    class_ids: NDArray[np.int16]
    confidences: NDArray[np.float32]
    attribute_ids: NDArray[np.int16]
    attribute_scores: NDArray[np.float32]
    class_names: Sequence[str]
    attribute_names: Sequence[tuple[str, ...]]

    def __post_init__(self) -> None:
        """Check that all columns speak of the same N regions and hold finite numbers."""
        num = len(self.class_ids)
        lengths = (
            len(self.boxes),
            len(self.features),
            len(self.confidences),
            len(self.attribute_ids),
            len(self.attribute_scores),
            len(self.class_names),
            len(self.attribute_names),
        )
        if lengths.count(num) != len(lengths):
            raise RecordError(
                f"image {self.image_id!r}: region columns of lengths { {num, *lengths} }"
            )
        if self.boxes.shape != (num, 4) or self.features.ndim != 2:
            raise RecordError(f"image {self.image_id!r}: boxes must be (N, 4), features (N, D)")
        if not (_is_finite(self.boxes) and _is_finite(self.features)):
            raise RecordError(f"image {self.image_id!r}: boxes or features hold NaN or infinity")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLabels:
    """The English names of one image's regions, row for row with its `ImageRegions`."""

    image_id: str
    class_names: tuple[str, ...]
    attribute_names: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTags:
    """Words for the regions of one image, row for row with its `ImageRegions`.

    tags:       N words, "" where the policy dropped the word; may be one for an image without
                regions, of which words are known all the same
    attributes: N tuples of attribute words, by falling score
    language:   "en" or "zh"
    """

    image_id: str
    tags: tuple[str, ...]
    attributes: tuple[tuple[str, ...], ...]
    language: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionAnnotation:
    """One sentence about one image. `split` is "train", "val" or "test"; `source` the dataset."""

    image_id: str
    caption_id: str
    text: str
    language: str
    split: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionAnnotation:
    """One question about one image with the answers people gave (10 in VQA v2, 1 elsewhere).

    answers:       in the file's order, duplicates kept; empty where the split hides them
    question_type: the dataset's own word ("what color is the", "colour", ...), "" if it has none
    answer_type:   "yes/no", "number", "other", "" if it has none
    """

    image_id: str
    question_id: str
    question: str
    answers: tuple[str, ...]
    language: str
    split: str
    source: str
    question_type: str = ""
    answer_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePairAnnotation:
    """One NLVR2 statement about two images."""

    pair_id: str
    left_image_id: str
    right_image_id: str
    sentence: str
    is_true: bool
    language: str
    split: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageObjects:
    """Ground-truth boxes of one image, for training and scoring a detector; N boxes.

    boxes:       (N, 4) float32   see module legend (COCO's x, y, w, h becomes x, y, x+w-1, y+h-1)
    class_names: N English names
    attributes:  N tuples of English attribute names, () where the dataset has none
    is_crowd:    (N,) bool        left out of training, absorb detections in scoring
    """

    image_id: str
    height: int
    width: int
    boxes: NDArray[np.float32]
    class_names: tuple[str, ...]
    attributes: tuple[tuple[str, ...], ...]
    is_crowd: NDArray[np.bool_]
    split: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotations:
    """Everything people said about the images of one run.

    The sequences make a record when it is asked for, where they lie in mapped files.

    other_ids: image id -> the ids that the same photo has in other collections, in the order in
               which they stand in for it where the first is not among the photos
    """

    captions: Sequence[CaptionAnnotation] = ()
    questions: Sequence[QuestionAnnotation] = ()
    pairs: Sequence[ImagePairAnnotation] = ()
    objects: Sequence[ImageObjects] = ()
    quarantined: Sequence[Quarantined] = ()
    other_ids: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
