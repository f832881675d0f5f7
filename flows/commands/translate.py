"""English labels in, Chinese words and coverage out: `oscar-flow translate`."""

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from translation.coverage import Coverage
from translation.dictionary import Policy, Translation, open_dictionary
from translation.labels import read_labels
from translation.lexicon import Kind

STANDARD_INPUT = "-"
_FILE_STARTS = (os.sep, ".")
_FILE_ENDINGS = frozenset({".txt", ".csv", ".tsv", ".json", ".jsonl"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Translated:
    """Labels with their words, and how many have one."""

    tags: tuple[Translation, ...]
    coverage: Coverage

    def as_json(self) -> dict[str, Any]:
        """`{"tags": [{"english", "chinese", "source"}], "coverage": ...}`.

        The share of no labels is null: nothing was covered, and nothing was not.
        """
        coverage = self.coverage.as_json()
        if not self.tags:
            coverage["share"] = None
        return {"tags": [asdict(each) for each in self.tags], "coverage": coverage}

    def lines(self) -> list[str]:
        """One line a label, and one of coverage."""
        covered = sum(each.is_covered for each in self.tags)
        width = max((len(each.english) for each in self.tags), default=0)
        told = [f"{each.english:<{width}}  {each.chinese}  ({each.source})" for each in self.tags]
        share = f"{covered / len(self.tags):.1%}" if self.tags else "nothing to translate"
        return [*told, f"covered: {covered} of {len(self.tags)} ({share})"]


def translate(
    sources: Sequence[str], *, kind: Kind, dictionary: Path | None, policy: Policy
) -> Translated:
    """Translate labels, in their order.

    Args:
        sources: each a label, a file of UTF-8 text with a label a line, or "-" for standard
            input, which is read where there are none. What ends like a file name (".txt") or
            begins like a path ("/", ".") is taken for a file even where there is none.
        kind: what the labels are.
        dictionary: a file of Mengzi's format beside our lexicon.
        policy: what becomes of a label that has no word.

    Raises:
        OSError: A file cannot be read.
        TranslationError: It is no text, the dictionary is damaged, or a label is not covered and
            must be.
    """
    labels = [label for source in sources or [STANDARD_INPUT] for label in _labels(source)]
    tags = open_dictionary(dictionary, policy=policy).translate(labels, kind)
    coverage = Coverage()
    coverage.add(tags, kind)
    return Translated(tags=tuple(tags), coverage=coverage)


def _labels(source: str) -> list[str]:
    if source == STANDARD_INPUT:
        return read_labels(sys.stdin.buffer.read(), source)
    path = Path(source)
    if source.startswith(_FILE_STARTS) or path.suffix in _FILE_ENDINGS or path.is_file():
        return read_labels(path.read_bytes(), source)
    return [source.strip()] if source.strip() else []
