"""English labels of a detector -> Chinese words, one for one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from translation.compose import compose_all
from translation.errors import UntranslatedError
from translation.lexicon import GENERAL, KINDS, Kind, own_lexicon
from translation.normalise import normalise, spellings
from translation.published.mengzi_dictionary import read_mengzi

Policy = Literal["keep", "drop", "fail"]
Order = Literal["lexicon", "dictionary"]

COMPOSED = "composed"
BORROWED = "borrowed"
KEPT = "kept"
DROPPED = "dropped"
UNCOVERED = frozenset({KEPT, DROPPED})

_SHADES = {"dark": "深", "deep": "深", "light": "浅", "pale": "淡", "bright": "亮"}
_COLOUR_SIGN = "色"
_MAX_WORDS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """One label and its word.

    english: the label as it was given
    chinese: its word; the label itself where it was kept, "" where it was dropped
    source:  the word list it stands in ("lexicon", "mengzi"), or
             "composed" of attribute and object, "borrowed" from the other kind of label,
             "kept" in English, "dropped"
    """

    english: str
    chinese: str
    source: str

    @property
    def is_covered(self) -> bool:
        """Whether there is a Chinese word for it."""
        return self.source not in UNCOVERED


@dataclass(frozen=True, slots=True, kw_only=True)
class WordList:
    """Words from one source; keys are normalised labels."""

    source: str
    words: Mapping[Kind, Mapping[str, str]]


class TagDictionary:
    """Looks labels up in word lists, the first list that knows a spelling wins."""

    def __init__(self, lists: Sequence[WordList], policy: Policy = "keep") -> None:
        """Take word lists in the order they are asked.

        Args:
            lists: at least one.
            policy: what becomes of a label that no list knows.
        """
        self.policy = policy
        self._lists = tuple(
            replace(each, words={kind: _with_joined(words) for kind, words in each.words.items()})
            for each in lists
        )
        self._known: dict[tuple[Kind, str], Translation] = {}

    def translate(self, labels: Sequence[str], kind: Kind) -> list[Translation]:
        """Translate labels one by one; as many come out as go in, in the same order.

        Raises:
            UntranslatedError: The policy is "fail" and labels are not covered; all are named.
        """
        translations = [self._translate(label, kind) for label in labels]
        if self.policy == "fail":
            missing = dict.fromkeys(each.english for each in translations if not each.is_covered)
            if missing:
                raise UntranslatedError(tuple(missing))
        return translations

    def _translate(self, label: str, kind: Kind) -> Translation:
        known = self._known.get((kind, label))
        if known is None:
            known = self._look(label, kind) or self._missing(label)
            self._known[kind, label] = known
        return known

    def _missing(self, label: str) -> Translation:
        if self.policy == "drop":
            return Translation(english=label, chinese="", source=DROPPED)
        return Translation(english=label, chinese=label, source=KEPT)

    def _look(self, label: str, kind: Kind) -> Translation | None:
        found = self._listed(label, kind)
        if found is None:
            other = KINDS[1] if kind == KINDS[0] else KINDS[0]
            borrowed = self._listed(label, other)
            if borrowed is not None:
                return Translation(english=label, chinese=borrowed.chinese, source=BORROWED)
            words = normalise(label).split(" ")
            chinese = self._phrase(words) if kind == "object" else self._attribute(words)
            if chinese:
                return Translation(english=label, chinese=chinese, source=COMPOSED)
        return found

    def _listed(self, label: str, kind: Kind) -> Translation | None:
        for spelling in spellings(label, inflect=kind == "object"):
            for each in self._lists:
                chinese = each.words.get(kind, {}).get(spelling)
                if chinese is not None:
                    return Translation(english=label, chinese=chinese, source=each.source)
        return None

    def _phrase(self, words: Sequence[str]) -> str:
        """Attributes and an object behind them; "" unless every word is accounted for."""
        if len(words) > _MAX_WORDS:
            return ""
        for start in range(1, len(words)):
            thing = self._listed(" ".join(words[start:]), "object")
            attributes = self._attributes(words[:start]) if thing else []
            if thing and attributes:
                return compose_all(attributes, thing.chinese)
        return ""

    def _attributes(self, words: Sequence[str]) -> list[str]:
        """Cut words into attributes, the longest first; [] where some word is none."""
        for end in range(len(words), 0, -1):
            first = self._attribute(words[:end])
            rest = self._attributes(words[end:]) if first and end < len(words) else []
            if first and (rest or end == len(words)):
                return [first, *rest]
        return []

    def _attribute(self, words: Sequence[str]) -> str:
        """One attribute: as listed, a shade of a colour, or two colours joined by "and"."""
        listed = self._listed(" ".join(words), "attribute")
        if listed:
            return listed.chinese
        if len(words) == 2 and words[0] in _SHADES:
            colour = self._attribute(words[1:])
            return _SHADES[words[0]] + colour if colour.endswith(_COLOUR_SIGN) else ""
        if len(words) == 2 and words[1] in ("colored", "coloured"):
            colour = self._attribute(words[:1])
            return colour if colour.endswith(_COLOUR_SIGN) else ""
        if len(words) > 2 and words[1] == "and":
            first, second = self._attribute(words[:1]), self._attribute(words[2:])
            return f"{first}和{second}" if first and second else ""
        return ""


def open_dictionary(
    dictionary: Path | None = None,
    *,
    policy: Policy = "keep",
    domain: str = GENERAL,
    first: Order = "lexicon",
) -> TagDictionary:
    """Our lexicon, with a dictionary of Mengzi's format beside it if one is named.

    Args:
        dictionary: file {english: chinese}, used for objects; None for our lexicon alone.
        policy: what becomes of a label that neither knows.
        domain: words of the lexicon that go before its general ones.
        first: which is asked first. Our lexicon corrects the published dictionary; a
            reproduction of the published tags asks the dictionary first.

    Raises:
        DictionaryError: The file is no dictionary, or the lexicon has no such domain.
    """
    lexicon = own_lexicon()
    lists = [
        WordList(source="lexicon", words={kind: lexicon.words(kind, domain) for kind in KINDS})
    ]
    if dictionary is not None:
        mengzi = WordList(source="mengzi", words={"object": read_mengzi(dictionary)})
        lists.insert(0 if first == "dictionary" else 1, mengzi)
    return TagDictionary(lists, policy)


def _with_joined(words: Mapping[str, str]) -> dict[str, str]:
    """The words, and those of several parts also as one: "fire truck" is found by "firetruck"."""
    joined = {label.replace(" ", ""): word for label, word in words.items()}
    return {**joined, **words}
