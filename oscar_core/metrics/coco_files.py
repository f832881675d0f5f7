"""File-level evaluation: references in COCO form, predictions `[{"image_id", "caption"}]`, AIC."""

from collections.abc import Collection, Mapping, Sequence

from oscar_core.metrics import chinese
from oscar_core.metrics.caption import METRICS, CaptionScores, evaluate_captions
from oscar_core.metrics.errors import CoverageError, MetricFileError, name_ids
from oscar_core.metrics.meteor import Meteor

ImageKey = int | str
"""As in the file; 1 and "1" are two images."""


def coco_references(table: object, *, source: str = "references") -> dict[ImageKey, list[str]]:
    """Sentences by image in the order of `images`; an image without sentence keeps an empty list.

    Raises:
        MetricFileError: No `images` or `annotations`, an id or caption of a wrong kind, an
            annotation of an image that is not listed.
    """
    if not isinstance(table, dict):
        raise MetricFileError(f"{source}: expected a JSON object with 'images' and 'annotations'")
    references: dict[ImageKey, list[str]] = {
        _key(row, "id", f"{source}: images[{number}]"): []
        for number, row in enumerate(_list(table, "images", source))
    }
    for number, row in enumerate(_list(table, "annotations", source)):
        place = f"{source}: annotations[{number}]"
        image = _key(row, "image_id", place)
        if image not in references:
            raise MetricFileError(f"{place}: image {image!r} is not among 'images'")
        references[image].append(_caption(row, place))
    return references


def coco_predictions(rows: object, *, source: str = "predictions") -> dict[ImageKey, str]:
    """One caption by image id.

    Raises:
        MetricFileError: Not a list of such rows, or an empty one.
        CoverageError: Two captions for one image.
    """
    if not isinstance(rows, list) or not rows:
        raise MetricFileError(f"{source}: expected a JSON list with at least one caption")
    captions: dict[ImageKey, str] = {}
    for number, row in enumerate(rows):
        place = f"{source}: row {number}"
        if not isinstance(row, dict):
            raise MetricFileError(f"{place}: expected an object with 'image_id' and 'caption'")
        image = _key(row, "image_id", place)
        if image in captions:
            raise CoverageError(f"{place}: second caption for image {image!r}")
        captions[image] = _caption(row, place)
    return captions


def evaluate_coco_captions(
    references: object,
    predictions: object,
    *,
    image_ids: Sequence[ImageKey] | None = None,
    tokenizer: str = "ptb",
    metrics: Collection[str] = METRICS,
    meteor: Meteor | None = None,
) -> CaptionScores:
    """Score predictions by the COCO protocol.

    Args:
        references: Parsed JSON of the annotation file.
        predictions: Parsed JSON of the result file.
        image_ids: Score these images only, as a corpus of their own (a nocaps domain, a subset);
            captions of other known images are left out. None: every image of the references.
        tokenizer: As in `evaluate_captions`.
        metrics: As in `evaluate_captions`.
        meteor: A running process to reuse.

    Raises:
        MetricFileError: A file of another form.
        CoverageError: Unknown, missing or repeated ids; 1 and "1" differ.
    """
    sentences = coco_references(references)
    captions = coco_predictions(predictions)
    unknown = [repr(image) for image in captions if image not in sentences]
    if unknown:
        raise CoverageError(
            f"predictions: {len(unknown)} image id(s) not in the references: {name_ids(unknown)}; "
            'ids must agree in kind too (1 is not "1")'
        )
    chosen = list(sentences) if image_ids is None else list(image_ids)
    missing = [repr(i) for i in chosen if i not in captions or i not in sentences]
    if missing:
        raise CoverageError(
            f"{len(missing)} of {len(chosen)} images have no caption: {name_ids(missing)}; "
            "name the images of a part with `image_ids`"
        )
    if len({str(image) for image in chosen}) < len(chosen):
        raise CoverageError("an image id occurs twice, or once as a number and once as a text")
    return evaluate_captions(
        {str(image): sentences[image] for image in chosen},
        {str(image): captions[image] for image in chosen},
        tokenizer,
        metrics,
        meteor=meteor,
    )


def evaluate_aic(
    annotations: object,
    submission: object,
    *,
    tokenizer: str = "jieba+ptb",
    metrics: Collection[str] = METRICS,
    meteor: Meteor | None = None,
) -> CaptionScores:
    """Score an AIC-ICC submission against an AIC annotation list, both parsed JSON.

    Raises:
        MetricFileError: Wrong form, an empty caption or id.
        CoverageError: Missing, unknown or repeated images.
    """
    return evaluate_captions(
        chinese.read_annotation_list(annotations),
        chinese.read_submission(submission),
        tokenizer,
        metrics,
        meteor=meteor,
    )


def _list(table: Mapping[str, object], key: str, source: str) -> list[dict[str, object]]:
    rows = table.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise MetricFileError(f"{source}: {key!r} must be a list of objects")
    return rows


def _key(row: Mapping[str, object], key: str, place: str) -> ImageKey:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise MetricFileError(f"{place}: {key!r} must be a number or a text")
    return value


def _caption(row: Mapping[str, object], place: str) -> str:
    value = row.get("caption")
    if not isinstance(value, str):
        raise MetricFileError(f"{place}: 'caption' must be a text")
    return value
