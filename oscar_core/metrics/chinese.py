"""Chinese captions: the text steps of the AIC-ICC protocol and its file formats.

Protocol (AI_Challenger_2017, Evaluation/caption_eval): strip, delete every full stop `。`, segment
with jieba in precise mode with the HMM, join with one space; then the PTB tokenizer and the English
scorers. Scores of different segmenters do not compare.
"""

import hashlib
import logging
import re
import threading
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Protocol, cast

from oscar_core.metrics.errors import CoverageError, MetricFileError, MetricInputError, name_ids

FULL_STOP = "。"
HASH_MODULUS = 2**63 - 1  # pycxtools/coco.py of AI_Challenger_2017

_HAN_OR_MARK = (
    "[\u2e80-\u2fdf\u3000-\u303f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uff0f"
    "\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\U00020000-\U0003ffff\u201c\u201d\u2018\u2019\u2026]"
)
_GAP = re.compile(rf"(?<={_HAN_OR_MARK})\s+|\s+(?={_HAN_OR_MARK})")

_loading = threading.Lock()


class Segmenter(Protocol):
    """What we use of a jieba tokenizer."""

    def lcut(self, sentence: str, *, cut_all: bool, HMM: bool) -> list[str]:  # noqa: N803 - jieba's name
        """Words in order; their concatenation is the sentence."""
        ...


def segmenter_version() -> str:
    """Name and release of the segmenter, for reports."""
    return f"jieba {version('jieba')}"


@cache
def _load_segmenter() -> Segmenter:
    """Jieba with its own dictionary, read afresh (0.4 s).

    jieba's cache is a marshal file in the shared temporary folder: slower to trust than to do
    without, and it did not load faster.
    """
    with warnings.catch_warnings():
        # invalid escapes in jieba's sources, and pkg_resources' own farewell
        warnings.simplefilter("ignore")
        import jieba
    logging.getLogger("jieba").setLevel(logging.CRITICAL)
    segmenter = jieba.Tokenizer()
    segmenter.FREQ, segmenter.total = segmenter.gen_pfdict(segmenter.get_dict_file())
    segmenter.initialized = True
    return cast(Segmenter, segmenter)


def cut(text: str, *, use_hmm: bool = True) -> list[str]:
    """Words of a sentence in jieba's precise mode, spaces and punctuation as words of their own."""
    with _loading:
        segmenter = _load_segmenter()
    return segmenter.lcut(text, cut_all=False, HMM=use_hmm)


def clean(text: str) -> str:
    """The sentence as the protocol segments it: stripped, then without any full stop `。`."""
    return text.strip().replace(FULL_STOP, "")


def segment(text: str) -> str:
    """Cleaned and segmented text, words joined by one space."""
    return " ".join(cut(clean(text)))


def split_characters(text: str) -> str:
    """Every character that is no white space as a token of its own, full stops deleted."""
    return " ".join("".join(clean(text).split()))


def close_gaps(text: str) -> str:
    """Remove white space beside Chinese characters and marks; between Latin words one space stays.

    Decoders join wordpieces with spaces, which would change the segmentation.
    """
    return " ".join(_GAP.sub("", text).split())


def image_stem(image_id: str) -> str:
    """The key of an AIC image: its name up to the first dot."""
    return image_id.split(".", 1)[0]


def reference_id(stem: str) -> int:
    """Number of an image in an AIC reference file; above 2**53, so readers with doubles break it.

    Source: AI_Challenger_2017 caption_eval, SHA-256 of the stem modulo 2**63 - 1.
    """
    return int(hashlib.sha256(stem.encode("utf-8")).hexdigest(), 16) % HASH_MODULUS


def read_annotation_list(rows: object, *, source: str = "annotations") -> dict[str, list[str]]:
    """References of the AIC list `[{"image_id", "caption": [five sentences]}]`, raw, by stem.

    Sentences that are empty after `clean` are left out; the captions of a repeated image are
    appended.

    Raises:
        MetricFileError: Not such a list.
        CoverageError: An image keeps no sentence.
    """
    references: dict[str, list[str]] = {}
    for number, row in enumerate(_rows(rows, source)):
        stem = image_stem(_text(row, "image_id", number, source))
        captions = row.get("caption")
        if not isinstance(captions, list) or not all(isinstance(c, str) for c in captions):
            raise MetricFileError(f"{source}: row {number}: 'caption' must be a list of sentences")
        kept = references.setdefault(stem, [])
        kept += [caption for caption in captions if clean(caption)]
    bare = [stem for stem, captions in references.items() if not captions]
    if bare:
        raise CoverageError(f"{source}: no sentence for image {name_ids(bare)}")
    return references


def read_submission(rows: object, *, source: str = "submission") -> dict[str, str]:
    """Captions of the AIC submission `[{"image_id": stem, "caption": sentence}]`, raw, by stem.

    Raises:
        MetricFileError: Not such a list, an empty id or an empty caption.
        CoverageError: Two captions for one image.
    """
    captions: dict[str, str] = {}
    for number, row in enumerate(_rows(rows, source)):
        stem = _text(row, "image_id", number, source)
        caption = _text(row, "caption", number, source)
        if stem in captions:
            raise CoverageError(f"{source}: row {number}: second caption for image {stem}")
        captions[stem] = caption
    return captions


def write_submission(captions: Mapping[str, str]) -> list[dict[str, str]]:
    """The AIC submission list: image stems and sentences without the decoder's spaces.

    Raises:
        MetricInputError: A caption or an id is empty, which the contest rejects.
    """
    rows = [
        {"image_id": image_stem(image), "caption": close_gaps(caption)}
        for image, caption in captions.items()
    ]
    empty = [row["image_id"] or "''" for row in rows if not row["image_id"] or not row["caption"]]
    if empty:
        raise MetricInputError(f"submission: no caption or no id for image {name_ids(empty)}")
    return rows


def write_reference_file(references: Mapping[str, Sequence[str]]) -> dict[str, object]:
    """The COCO-form reference file of the AIC evaluator, segmented, with its hash ids."""
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for stem, captions in references.items():
        number = reference_id(stem)
        images.append({"file_name": stem, "id": number})
        for caption in captions:
            if clean(caption):
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": number, "caption": segment(caption)}
                )
    return {
        "info": {},
        "licenses": [],
        "type": "captions",
        "images": images,
        "annotations": annotations,
    }


def _rows(rows: object, source: str) -> list[dict[str, object]]:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise MetricFileError(f"{source}: expected a JSON list of objects")
    if not rows:
        raise MetricFileError(f"{source}: the list is empty")
    return rows


def _text(row: Mapping[str, object], key: str, number: int, source: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise MetricFileError(f"{source}: row {number}: {key!r} must be a text that is not empty")
    return value
