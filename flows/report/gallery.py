"""Photos with what was seen on them, what was written about them and what people wrote."""

from collections.abc import Sequence

from flows.demo.texts import find_colour_phrases
from flows.demo.truth import TrueImage
from flows.report.album import spread
from flows.report.finished import FinishedStep, read_rows
from flows.report.records import GalleryEntry, RegionShown, TextPart
from flows.report.stored import Stored
from storage.records import ImageRegions, ImageTags
from translation.compose import compose_all

MAX_ATTRIBUTES = 3
MIN_ATTRIBUTE_SCORE = 0.15
"""Attributes shown of a region: the surest few."""
NUM_DRAWN = 8
"""Boxes drawn on a photo; the other regions are listed."""
MIN_DRAWN_CONFIDENCE = 0.2


def read_captions(step: FinishedStep | None, control: str) -> dict[str, str]:
    """image_id -> predicted caption; {} where there are none.

    Args:
        step: that wrote predictions.
        control: "right", "shuffled" or "features_shuffled".
    """
    if step is None:
        return {}
    rows = read_rows(step.folder / "predictions" / f"{control}.jsonl")
    return {str(row["image_id"]): str(row.get("caption", "")) for row in rows if "image_id" in row}


def gallery(
    stored: Stored, predicted: FinishedStep | None, language: str, num: int
) -> tuple[GalleryEntry, ...]:
    """Entries at even distances over the captioned photos, or over all where none is captioned.

    A run from stored regions has no photos to show; its words are shown without.
    """
    right = read_captions(predicted, "right")
    control = read_captions(predicted, "features_shuffled")
    candidates = sorted(
        name for name in right or stored.regions if name in stored.album or not len(stored.album)
    )
    references: dict[str, list[str]] = {}
    for caption in stored.annotations.captions:
        if caption.language == language:
            references.setdefault(caption.image_id, []).append(caption.text)
    return tuple(
        GalleryEntry(
            picture=stored.album.photo(image_id),
            regions=shown_regions(stored.regions.get(image_id), stored.tags.get(image_id)),
            caption=marked(right.get(image_id, ""), truth),
            caption_features_shuffled=marked(control.get(image_id, ""), truth),
            language=language,
            references=tuple(references.get(image_id, ())),
            is_new_combination=truth is not None and truth.shows_held_out,
        )
        for image_id in spread(candidates, num)
        for truth in [stored.truth.get(image_id)]
    )


def marked(caption: str, truth: TrueImage | None) -> tuple[TextPart, ...]:
    """Cut a caption at its object-with-colour phrases and judge each; whole where no truth is."""
    if not caption or truth is None:
        return (TextPart(text=caption),) if caption else ()
    shown = set(truth.colour_phrases)
    text, at = "".join(caption.split()), 0
    parts = []
    for phrase in find_colour_phrases(text):
        if phrase.start > at:
            parts.append(TextPart(text=text[at : phrase.start]))
        is_true = (phrase.colour, phrase.class_name) in shown
        at = phrase.end
        parts.append(TextPart(text=text[phrase.start : at], verdict="true" if is_true else "false"))
    if at < len(text):
        parts.append(TextPart(text=text[at:]))
    return tuple(parts)


def shown_regions(regions: ImageRegions | None, tags: ImageTags | None) -> tuple[RegionShown, ...]:
    """Every region with its words; the surest few are drawn."""
    if regions is None:
        return ()
    return tuple(_shown(number, regions, tags) for number in range(len(regions.class_ids)))


def _shown(number: int, regions: ImageRegions, tags: ImageTags | None) -> RegionShown:
    x1, y1, x2, y2 = (float(edge) for edge in regions.boxes[number])
    chosen = _sure_attributes(number, regions)
    confidence = float(regions.confidences[number])
    return RegionShown(
        number=number + 1,
        left=x1 / regions.width,
        top=y1 / regions.height,
        width=(x2 - x1 + 1) / regions.width,
        height=(y2 - y1 + 1) / regions.height,
        english=_english(
            [regions.attribute_names[number][at] for at in chosen], regions.class_names[number]
        ),
        chinese=_chinese(number, chosen, tags),
        confidence=confidence,
        is_drawn=number < NUM_DRAWN and (number == 0 or confidence >= MIN_DRAWN_CONFIDENCE),
    )


def _sure_attributes(number: int, regions: ImageRegions) -> list[int]:
    """Places of the few attributes to show, by their ids: equal regions read alike."""
    is_sure = regions.attribute_scores[number] >= MIN_ATTRIBUTE_SCORE
    num = min(MAX_ATTRIBUTES, int(is_sure.sum()), len(regions.attribute_names[number]))
    return sorted(range(num), key=lambda at: int(regions.attribute_ids[number, at]))


def _chinese(number: int, chosen: Sequence[int], tags: ImageTags | None) -> str:
    if tags is None or tags.language != "zh" or number >= len(tags.tags):
        return ""
    words = tags.attributes[number]
    return compose_all([words[at] for at in reversed(chosen) if at < len(words)], tags.tags[number])


def _english(attributes: Sequence[str], name: str) -> str:
    """Attributes before the name, those that the name already says left out."""
    said = name.split()
    return " ".join([*(word for word in attributes if word not in said), name])
