"""Do translated sentences use the words that the tags use?

A sentence is not wrong because it says 轿车 where the lexicon says 汽车; but who learns from both
meets one thing under two names. So what is missing is counted and listed, no more.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from translation.lexicon import GENERAL, own_lexicon
from translation.normalise import normalise, singulars

_WORDS_IN_A_NAME = 3
_WORD = re.compile(r"[a-z0-9]+")
_SUFFIXES = ("的", "色", "子")
"""A word still counts as said without them: 红 for 红色, 桌 for 桌子."""
# fmt: off
_OTHER_IN_SENTENCES = frozenset(
    {
        "back", "bear", "can", "close", "could", "down", "fall", "fly", "front",
        "ground", "in", "kind", "light", "like", "match", "off", "on", "open", "out",
        "park", "place", "plant", "play", "point", "present", "race", "right", "run",
        "saw", "shot", "show", "sink", "spring", "stand", "start", "stop", "then", "up",
        "wave", "watch", "will",
    }
)
# fmt: on
"""Names of things that are mostly another word when they stand in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One known word of a sentence. chinese: its words in the lexicon; is_said: one is there."""

    english: str
    chinese: tuple[str, ...]
    is_said: bool


class Glossary:
    """Known words in English sentences, and whether their Chinese stands in the translation."""

    def __init__(self, words: Mapping[str, Sequence[str]]) -> None:
        """Take the words.

        Args:
            words: normalised English -> what it may be in Chinese.
        """
        self._words = words

    def uses(self, english: str, chinese: str) -> Iterator[Use]:
        """The known words of a sentence, the longest names first, none inside another."""
        words = _WORD.findall(normalise(english))
        start = 0
        while start < len(words):
            name, length = self._name_at(words, start)
            if length and name not in _OTHER_IN_SENTENCES:
                expected = tuple(self._words[name])
                is_said = any(form in chinese for each in expected for form in _forms(each))
                yield Use(english=name, chinese=expected, is_said=is_said)
            start += max(1, length)

    def _name_at(self, words: Sequence[str], start: int) -> tuple[str, int]:
        """The longest name that begins there and its number of words; 0 where there is none."""
        for length in range(min(_WORDS_IN_A_NAME, len(words) - start), 0, -1):
            *head, last = words[start : start + length]
            for form in (last, *singulars(last)):
                name = " ".join((*head, form))
                if name in self._words:
                    return name, length
        return "", 0


@dataclass(slots=True)
class GlossaryCount:
    """How often known words were met, and how often their Chinese was missing.

    missing:  word -> times
    examples: word -> the first sentence that lacks it, and its translation
    """

    num_words: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    expected: dict[str, tuple[str, ...]] = field(default_factory=dict)
    examples: dict[str, tuple[str, str]] = field(default_factory=dict)

    def add(self, glossary: Glossary, english: str, chinese: str) -> None:
        """Count the words of one sentence."""
        for use in glossary.uses(english, chinese):
            self.num_words += 1
            if not use.is_said:
                self.missing[use.english] += 1
                self.expected[use.english] = use.chinese
                self.examples.setdefault(use.english, (english, chinese))

    def as_json(self, num_listed: int = 200) -> dict[str, object]:
        """Plain JSON values; `missing` lists the most frequent words."""
        frequent = sorted(self.missing.items(), key=lambda pair: (-pair[1], pair[0]))
        return {
            "words": self.num_words,
            "missing_uses": self.missing.total(),
            "missing_words": len(self.missing),
            "missing": [
                {
                    "english": name,
                    "chinese": list(self.expected[name]),
                    "count": count,
                    "sentence": self.examples[name][0],
                    "translation": self.examples[name][1],
                }
                for name, count in frequent[:num_listed]
            ],
        }


def own_glossary(domain: str = GENERAL) -> Glossary:
    """The words of our own lexicon; a name that is object and attribute may be said either way.

    Raises:
        DictionaryError: The lexicon has no such domain.
    """
    words: dict[str, tuple[str, ...]] = {}
    lexicon = own_lexicon()
    for known in (lexicon.words("object", domain), lexicon.words("attribute", domain)):
        for english, chinese in known.items():
            words[english] = tuple(dict.fromkeys((*words.get(english, ()), chinese)))
    return Glossary(words)


def _forms(chinese: str) -> Iterator[str]:
    yield chinese
    for suffix in _SUFFIXES:
        if len(chinese) > 1 and chinese.endswith(suffix):
            yield chinese.removesuffix(suffix)
