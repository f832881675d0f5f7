"""Mengzi's dictionary: one JSON object {english: chinese}, the file `chinese_label.json`.

It speaks of objects alone: an attribute of the same name has another sense, so it is never used
for attributes. Keys are looked up in their normal form (`translation.normalise`), so case does
not count. Outer white space of a word is stripped; inner white space is taken out, since tags are
joined by spaces and one word would become several.

Source: Langboat/Mengzi, `chinese_label.json` (Apache-2.0), which this package does not contain.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from translation.normalise import normalise
from translation.word_files import Members, raise_together, read_members, word_problem


def read_mengzi(path: Path) -> dict[str, str]:
    """Read a dictionary strictly; nothing is guessed and nothing passed over.

    Returns:
        Normalised English label -> Chinese word, in the order of the file.

    Raises:
        DictionaryError: The file is no JSON object, or some entries are bad: a key twice, a value
            that is empty or no text. All are named in one line.
    """
    words: dict[str, str] = {}
    raise_together(path, _collect(read_members(path), words))
    return words


def to_mengzi(words: Mapping[str, str]) -> str:
    """The text of a dictionary file, in the published form: one line, characters unescaped."""
    return json.dumps(dict(words), ensure_ascii=False)


def _collect(members: Members, words: dict[str, str]) -> Iterator[str]:
    """Fill `words`; tell what is wrong with the other members."""
    for key, value in members:
        label = normalise(key)
        problem = word_problem(value) or ("" if label else "has a key without a letter")
        if problem:
            yield f"{key!r} {problem}"
            continue
        word = "".join(value.split())
        if label in words:
            other = "" if words[label] == word else f" ({words[label]}, {word})"
            yield f"{key!r} occurs twice{other}"
        words.setdefault(label, word)
