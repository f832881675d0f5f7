"""English labels in, Chinese words and coverage out: `oscar-flow translate`."""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from translation.coverage import Coverage
from translation.dictionary import Policy, Translation, open_dictionary
from translation.labels import read_labels
from translation.lexicon import Kind

STANDARD_INPUT = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Translated:
    """Labels with their words, and how many have one."""

    tags: tuple[Translation, ...]
    coverage: Coverage

    def as_json(self) -> dict[str, Any]:
        """`{"tags": [{"english", "chinese", "source"}], "coverage": ...}`."""
        return {
            "tags": [asdict(each) for each in self.tags],
            "coverage": self.coverage.as_json(),
        }

    def lines(self) -> list[str]:
        """One line a label, and one of coverage."""
        covered = sum(each.is_covered for each in self.tags)
        width = max((len(each.english) for each in self.tags), default=0)
        told = [f"{each.english:<{width}}  {each.chinese}  ({each.source})" for each in self.tags]
        share = f"{covered / len(self.tags):.1%}" if self.tags else "nothing to translate"
        return [*told, f"covered: {covered} of {len(self.tags)} ({share})"]


def translate(source: str, *, kind: Kind, dictionary: Path | None, policy: Policy) -> Translated:
    """Translate every line that is not empty.

    Args:
        source: a file of UTF-8 text, or "-" for standard input.
        kind: what the labels are.
        dictionary: a file of Mengzi's format beside our lexicon.
        policy: what becomes of a label that has no word.

    Raises:
        OSError: The file cannot be read.
        TranslationError: It is no text, the dictionary is damaged, or a label is not covered and
            must be.
    """
    labels = read_labels(_content(source), source)
    tags = open_dictionary(dictionary, policy=policy).translate(labels, kind)
    coverage = Coverage()
    coverage.add(tags, kind)
    return Translated(tags=tuple(tags), coverage=coverage)


def _content(source: str) -> bytes:
    return sys.stdin.buffer.read() if source == STANDARD_INPUT else Path(source).read_bytes()
