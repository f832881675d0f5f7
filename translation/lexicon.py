"""Our own English-Chinese lexicon: a versioned data file with sense notes.

Objects and attributes are kept apart, since the same word means one thing as an object and
another as an attribute: an orange (the fruit) and orange (the colour). A domain is a small set of
words that go before the general ones where a run's texts use others.

The file is JSON: `format`, `version`, `language`, `direct`, `aliases`, `objects`, `attributes`,
`domains`. An entry is the Chinese word, or `{"zh": word, "sense": note}`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from translation.errors import DictionaryError
from translation.normalise import normalise
from translation.word_files import Members, raise_together, read_members, word_problem

Kind = Literal["object", "attribute"]
KINDS: tuple[Kind, ...] = ("object", "attribute")
FORMAT = "oscar-flow lexicon"
OWN_LEXICON = Path(__file__).with_name("lexicon_zh.json")
GENERAL = ""
"""Name of the domain that adds nothing."""

_KEYS = {
    "format",
    "version",
    "language",
    "direct",
    "aliases",
    "objects",
    "attributes",
    "domains",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One word. sense: which of several meanings the translation has, "" where there is one."""

    chinese: str
    sense: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lexicon:
    """A lexicon file in memory; keys are normalised English labels.

    version:    of the words, raised with every change
    direct:     attributes that join their noun without the particle "de"
    aliases:    other names of objects -> the object
    objects, attributes: label -> entry
    domains:    name -> kind -> label -> entry, which go before the general ones
    """

    version: str
    language: str
    direct: frozenset[str]
    aliases: Mapping[str, str]
    objects: Mapping[str, Entry]
    attributes: Mapping[str, Entry]
    domains: Mapping[str, Mapping[Kind, Mapping[str, Entry]]]

    def words(self, kind: Kind, domain: str = GENERAL) -> dict[str, str]:
        """English -> Chinese of one kind as a domain speaks, aliases included.

        Raises:
            DictionaryError: No such domain.
        """
        if domain != GENERAL and domain not in self.domains:
            known = ", ".join(map(repr, self.domains)) or "none"
            raise DictionaryError(f"the lexicon has no domain {domain!r}; there are {known}")
        general = self.objects if kind == "object" else self.attributes
        special = self.domains[domain].get(kind, {}) if domain != GENERAL else {}
        words = {label: entry.chinese for label, entry in {**general, **special}.items()}
        if kind == "object":
            words |= {alias: words[label] for alias, label in self.aliases.items()}
        return words

    def sense(self, label: str, kind: Kind) -> str:
        """The note on which meaning is translated, "" where none is needed."""
        entries = self.objects if kind == "object" else self.attributes
        entry = entries.get(normalise(label))
        return entry.sense if entry else ""


@cache
def own_lexicon() -> Lexicon:
    """The lexicon that comes with this package, read once."""
    return read_lexicon(OWN_LEXICON)


def read_lexicon(path: Path) -> Lexicon:
    """Read a lexicon file strictly.

    Raises:
        DictionaryError: The file is no lexicon, or some of its entries are none; all are named.
    """
    members = dict(read_members(path))
    if members.get("format") != FORMAT:
        raise DictionaryError(f'{path}: not a lexicon (no "format": "{FORMAT}")')
    problems: list[str] = [f"unknown key {key!r}" for key in members if key not in _KEYS]
    objects = dict(_entries(members.get("objects"), "objects", problems))
    attributes = dict(_entries(members.get("attributes"), "attributes", problems))
    aliases = {
        alias: normalise(entry.chinese)
        for alias, entry in _entries(members.get("aliases", Members()), "aliases", problems)
    }
    for alias, label in aliases.items():
        if label not in objects or alias in objects:
            problems.append(f"aliases.{alias} must be a new name of an object")
    domains = {
        str(name): _domain(value, f"domains.{name}", problems)
        for name, value in _members(members.get("domains", Members()), "domains", problems)
    }
    direct = members.get("direct", [])
    if not isinstance(direct, list) or any(map(word_problem, direct)):
        problems.append("direct must be a list of words")
        direct = []
    raise_together(path, problems)
    return Lexicon(
        version=str(members.get("version", "")),
        language=str(members.get("language", "")),
        direct=frozenset(direct),
        aliases=aliases,
        objects=objects,
        attributes=attributes,
        domains=domains,
    )


def _domain(value: object, where: str, problems: list[str]) -> dict[Kind, dict[str, Entry]]:
    groups = dict(_members(value, where, problems))
    problems += [
        f"{where}: unknown key {key!r}" for key in groups if key not in ("objects", "attributes")
    ]
    return {
        kind: dict(_entries(groups.get(f"{kind}s", Members()), f"{where}.{kind}s", problems))
        for kind in KINDS
    }


def _entries(value: object, where: str, problems: list[str]) -> Iterator[tuple[str, Entry]]:
    seen: set[str] = set()
    for label, word in _members(value, where, problems):
        fields = dict(word) if isinstance(word, Members) else {"zh": word}
        chinese, sense = fields.pop("zh", None), fields.pop("sense", "")
        problem = word_problem(chinese) or ("has unknown keys" if fields else "")
        if label != normalise(label) or label in seen:
            problem = "is not in its normal form, or twice"
        if not isinstance(sense, str):
            problem = "has a sense that is no text"
        seen.add(label)
        if problem:
            problems.append(f"{where}.{label} {problem}")
        else:
            yield label, Entry(chinese=str(chinese), sense=sense)


def _members(value: object, where: str, problems: list[str]) -> Members:
    if isinstance(value, Members):
        return value
    problems.append(f"{where} must be an object")
    return Members()
