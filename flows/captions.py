"""Captions for photos of which nobody has said anything yet."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from storage.library import Library
from storage.records import WIDTH_FIRST, Annotations, CaptionAnnotation, ImageRegions, ImageTags

_SPLIT = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a model says of a photo. probability: of a word, on the (geometric) mean."""

    image_id: str
    caption: str
    probability: float


def describe(
    model: Path,
    regions: Mapping[str, ImageRegions],
    tags: Mapping[str, ImageTags],
    *,
    geometry: str | None = None,
    on_batch: Callable[[int, int], None],
) -> list[Said]:
    """Let a captioning model speak of every photo.

    Args:
        model: folder of a captioning model.
        regions: photo -> what the detector saw, by the detector the model was trained with.
        tags: the same photos -> words.
        geometry: order of the last two numbers of stored regions; None gives the model its own.
        on_batch: told (done, total) photos.

    Raises:
        OscarCoreError: The model cannot be read, or is not one of captioning.
    """
    from oscar_core.model_folder import read_model
    from oscar_core.run import predict_task

    stored = read_model(model)
    language = str(getattr(stored.config, "language", "zh"))
    library = Library(
        regions=regions,
        tags=tags,
        annotations=Annotations(captions=tuple(_asked(each, language) for each in regions)),
        geometry=geometry or stored.geometry or WIDTH_FIRST,
    )
    predictions = predict_task(model=model, library=library, split=_SPLIT, on_batch=on_batch)
    return [
        Said(
            image_id=each.image_id,
            caption=each.caption,
            probability=math.exp(each.log_probability),
        )
        for each in predictions
    ]


def _asked(image_id: str, language: str) -> CaptionAnnotation:
    """An empty caption: the photo is in the split, and what is said of it is to be found."""
    return CaptionAnnotation(
        image_id=image_id, caption_id=image_id, text="", language=language, split=_SPLIT, source=""
    )
