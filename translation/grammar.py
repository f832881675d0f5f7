"""What Chinese grammar needs to know of words: kinds of attributes, measure words of nouns.

Data lies in `grammar_zh.json`: `classes` name the words of a kind of attribute, `endings` the last
characters that tell it, `measures` name under each measure word the nouns it counts, or what they
end with (a police car ends with the sign for car).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from translation.errors import DictionaryError
from translation.word_files import Members, raise_together, read_members, word_problem

AttributeClass = Literal[
    "quantity", "action", "state", "colour", "pattern", "shape", "size", "age", "material"
]
FORMAT = "oscar-flow grammar"
OWN_GRAMMAR = Path(__file__).with_name("grammar_zh.json")
GENERAL_MEASURE = "个"
"""Counts whatever has no measure word of its own."""

_CLASSES: tuple[AttributeClass, ...] = get_args(AttributeClass)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """The file in memory.

    classes:  Chinese attribute -> its kind
    endings:  its last character -> its kind, for those that `classes` lacks
    measures: noun, or what it ends with -> its measure word
    """

    classes: Mapping[str, AttributeClass]
    endings: Mapping[str, AttributeClass]
    measures: Mapping[str, str]

    def attribute_class(self, word: str) -> AttributeClass:
        """Kind of an attribute; a state where nothing is known."""
        return self.classes.get(word) or self.endings.get(word[-1:], "state")

    def measure_word(self, noun: str) -> str:
        """Measure word of a noun, by its longest known ending."""
        for start in range(len(noun)):
            measure = self.measures.get(noun[start:])
            if measure:
                return measure
        return GENERAL_MEASURE


@cache
def own_grammar() -> Grammar:
    """The grammar that comes with this package, read once."""
    return read_grammar(OWN_GRAMMAR)


def read_grammar(path: Path) -> Grammar:
    """Read a grammar file strictly.

    Raises:
        DictionaryError: The file is none, or some of its entries are bad; all are named.
    """
    members = dict(read_members(path))
    if members.get("format") != FORMAT:
        raise DictionaryError(f'{path}: not a grammar (no "format": "{FORMAT}")')
    problems: list[str] = []
    known = {"format", "language", "classes", "endings", "measures"}
    problems += [f"unknown key {key!r}" for key in members if key not in known]
    kinds: dict[str, AttributeClass] = {name: name for name in _CLASSES}
    classes = _inverted(members.get("classes"), "classes", problems)
    endings = _inverted(members.get("endings"), "endings", problems)
    measures = _inverted(members.get("measures"), "measures", problems)
    for where, words in (("classes", classes), ("endings", endings)):
        unknown = dict.fromkeys(kind for kind in words.values() if kind not in kinds)
        problems += [f"{where}.{kind} is no kind of attribute" for kind in unknown]
    raise_together(path, problems)
    return Grammar(
        classes={word: kinds[kind] for word, kind in classes.items()},
        endings={word: kinds[kind] for word, kind in endings.items()},
        measures=measures,
    )


def _inverted(value: object, where: str, problems: list[str]) -> dict[str, str]:
    """{name: [word]} -> {word: name}; a word has one name."""
    names: dict[str, str] = {}
    if not isinstance(value, Members):
        problems.append(f"{where} must be an object")
        return names
    for name, words in value:
        if not isinstance(words, list) or any(map(word_problem, words)):
            problems.append(f"{where}.{name} must be a list of words")
            continue
        for word in words:
            if word in names:
                problems.append(f"{where}.{name}: {word} stands twice")
            names[word] = name
    return names
