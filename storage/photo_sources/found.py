"""What a collection gives for each thing it holds: a photo, or why it is none."""

import os
from collections.abc import Callable

from storage.artifacts import is_inside
from storage.images import SUFFIXES, image_id_of, name_problem
from storage.records import ImageSource, Quarantined

Found = ImageSource | Quarantined
_SHOWN = 200
_WHY = {
    "name-not-utf8": "the name is not UTF-8",
    "name-unprintable": "control characters in the name",
}


def claims_to_be_photo(name: str) -> bool:
    """Whether a name has the ending of a photo and is not hidden."""
    base = name.rsplit("/", 1)[-1]
    return not base.startswith(".") and os.path.splitext(base)[1].lower() in SUFFIXES


def without_ending(name: str) -> str:
    """A photo's name without `.jpg` and its like; other names as they are."""
    return os.path.splitext(name)[0] if claims_to_be_photo(name) else name


def under_name(
    namespace: str, name: str, place: str, source_of: Callable[[str], ImageSource]
) -> Found:
    """The photo of that name, unless nobody could be called so.

    Args:
        namespace: of the collection; "" for none.
        name: with "/", without ending.
        place: where it was found, for the message.
        source_of: gives the photo its image id.
    """
    image_id = image_id_of(namespace, name)
    if reason := name_problem(image_id):
        shown = ascii(name[:_SHOWN])
        return set_aside(image_id, reason, f"{place}: {shown}: {_WHY[reason]}; rename it")
    return source_of(image_id) if name else set_aside(place, "no-name", f"{place}: has no name")


def inside_problem(name: str) -> bool:
    """Whether a name points out of the folder that it is meant for."""
    return not is_inside(name) or "\0" in name or "\\" in name or ":" in name.split("/")[0]


def set_aside(image_id: str, reason: str, detail: str) -> Quarantined:
    """Something that cannot be used."""
    return Quarantined(image_id=image_id, reason=reason, detail=detail)
