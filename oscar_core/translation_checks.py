"""Is what a translation model wrote a translation at all?"""

import re
from itertools import pairwise

EMPTY, CUT, REPEATS, UNTRANSLATED, TOO_LONG = (
    "empty",
    "unfinished",
    "repeats",
    "untranslated",
    "source-too-long",
)
"""Reasons for quarantine, as `problem_of` gives them; the last comes before a model is asked."""

CHINESE = "zh"
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]")
_THREE_TIMES = re.compile(r"(.{1,12}?)\1{2,}", re.DOTALL)
_FOUR_TIMES = re.compile(r"(.{1,12}?)\1{3,}", re.DOTALL)
_LONG = 20
_LEAST_VARIETY = 0.34


def problem_of(source: str, translation: str, *, language: str, has_ended: bool) -> str:
    """Why a translation is of no use, "" where nothing speaks against it.

    Args:
        source: the sentence.
        translation: what became of it.
        language: that it should be in; for "zh" it must hold a Chinese character.
        has_ended: whether the model came to an end by itself.

    Returns:
        One of the reasons above. Four equal pieces in a row count as a repetition unless the
        sentence has such itself ("ha ha ha ha", 100000); so does a long text of few different
        pairs of characters.
    """
    if not any(sign.isalnum() for sign in translation):
        return EMPTY
    if not has_ended:
        return CUT
    if _repeats(translation) and not _THREE_TIMES.search(source):
        return REPEATS
    if language == CHINESE and not _HAN.search(translation):
        return UNTRANSLATED
    return ""


def is_number(text: str) -> bool:
    """Digits and signs alone: nothing that a model should translate."""
    return any(sign.isdigit() for sign in text) and not any(sign.isalpha() for sign in text)


def _repeats(text: str) -> bool:
    if _FOUR_TIMES.search(text):
        return True
    pairs = set(pairwise(text))
    return len(text) >= _LONG and len(pairs) < _LEAST_VARIETY * (len(text) - 1)
