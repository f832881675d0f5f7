"""Spellings of one label: case, white space, hyphens, British and American, singular, plural.

A label and the keys of a dictionary are brought to one form (`normalise`); where that form is not
found, `spellings` offers others, nearest first. Which of them is a word decides the dictionary.
"""

import re
import unicodedata
from collections.abc import Iterator
from itertools import product

_APART = re.compile(r"[\s_\-\u2010-\u2015/]+")
_APOSTROPHES = dict.fromkeys(map(ord, "'\u2019\u02bc`"))
_NOTE = re.compile(r"\([^()]*\)")
_OUR = re.compile(r"\b(arm|col|fav|flav|glam|harb|hon|hum|lab|neighb|od|parl|rum|sav|vap)our")

AMERICAN = {
    "aeroplane": "airplane",
    "aluminium": "aluminum",
    "armoured": "armored",
    "catalogue": "catalog",
    "centre": "center",
    "chequered": "checkered",
    "chilli": "chili",
    "cosy": "cozy",
    "doughnut": "donut",
    "fibre": "fiber",
    "grey": "gray",
    "greyish": "grayish",
    "jewellery": "jewelry",
    "kerb": "curb",
    "licence": "license",
    "litre": "liter",
    "metre": "meter",
    "mould": "mold",
    "moustache": "mustache",
    "omelette": "omelet",
    "plough": "plow",
    "programme": "program",
    "pyjama": "pajama",
    "pyjamas": "pajamas",
    "racquet": "racket",
    "spectre": "specter",
    "storey": "story",
    "theatre": "theater",
    "travelling": "traveling",
    "traveller": "traveler",
    "tyre": "tire",
    "woollen": "woolen",
    "yoghurt": "yogurt",
}
"""British -> American, the spelling of the published label maps; `-our` is done by rule."""

IRREGULAR = {
    "people": "person",
    "men": "man",
    "women": "woman",
    "children": "child",
    "feet": "foot",
    "geese": "goose",
    "mice": "mouse",
    "oxen": "ox",
    "dice": "die",
    "teeth": "tooth",
}
"""Plurals that no rule makes; compounds such as `policemen` by their end."""


def normalise(label: str) -> str:
    """One form for every way of writing a label.

    Lower case, compatibility forms unified, hyphens and underscores as spaces, single spaces, no
    apostrophes. "T-Shirt" and " t shirt" agree. Applying it twice changes nothing.
    """
    text = unicodedata.normalize("NFKC", label).casefold().translate(_APOSTROPHES)
    text = unicodedata.normalize("NFKC", text)
    return " ".join(_APART.sub(" ", text).split())


def americanise(label: str) -> str:
    """A normalised label in American spelling, word by word."""
    words = _OUR.sub(r"\1or", label).split(" ")
    return " ".join(_american(word) for word in words)


def singulars(word: str) -> Iterator[str]:
    """What a word could be the plural of, likeliest first; nothing for one that is no plural."""
    for plural, singular in IRREGULAR.items():
        if word == plural or (len(plural) > 2 and plural.endswith("men") and word.endswith(plural)):
            yield word.removesuffix(plural) + singular
            return
    if len(word) < 3 or not word.endswith("s") or word.endswith("ss"):
        return
    yield word[:-1]
    if word.endswith("ies"):
        yield word[:-3] + "y"
    if word.endswith("ves"):
        yield word[:-3] + "f"
        yield word[:-3] + "fe"
    if word.endswith("es"):
        yield word[:-2]


def spellings(label: str, *, inflect: bool = True) -> Iterator[str]:
    """Forms under which a label may stand in a dictionary, nearest first, each once.

    The label itself, its American spelling, its last word in the singular, every word in the
    singular, its last word in the plural, and all of these written as one word. A label with
    notes in brackets, as LVIS and Open Images have them ("bat_(animal)"), comes first as it
    stands and then without them.

    Args:
        label: as given.
        inflect: offer singular and plural too. Attributes have none: "glasses" is no way of
            writing the material glass.
    """
    whole = normalise(label)
    forms = dict.fromkeys(_written(whole, inflect))
    bare = normalise(_NOTE.sub(" ", whole))
    yield from (form for form in forms if form)
    if bare != whole:
        yield from (form for form in _written(bare, inflect) if form not in forms)


def _written(label: str, inflect: bool) -> Iterator[str]:
    given = dict.fromkeys((label, americanise(label)))
    if not label:
        return
    forms = dict(given)
    if inflect:
        for form in given:
            head, _, last = form.rpartition(" ")
            forms |= dict.fromkeys(f"{head} {each}".strip() for each in singulars(last))
        for form in given:
            forms |= dict.fromkeys(_all_singular(form))
        forms |= dict.fromkeys(f"{form}s" for form in given if not form.endswith("s"))
    yield from forms
    joined = dict.fromkeys(form.replace(" ", "") for form in forms)
    yield from (form for form in joined if form not in forms)


def _american(word: str) -> str:
    if word in AMERICAN:
        return AMERICAN[word]
    stem = word.removesuffix("s")
    return f"{AMERICAN[stem]}s" if stem in AMERICAN and stem != word else word


def _all_singular(form: str) -> Iterator[str]:
    words = form.split(" ")
    if 1 < len(words) <= 4:
        for choice in product(*([word, *singulars(word)] for word in words)):
            yield " ".join(choice)
