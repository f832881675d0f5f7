"""How much of what a detector said has a Chinese word, and what has none."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from translation.dictionary import Translation
from translation.lexicon import KINDS, Kind

_EXAMPLES = 5


class Coverage:
    """Counts translations as they are made."""

    def __init__(self) -> None:
        self._uses: defaultdict[tuple[Kind, str], Counter[str]] = defaultdict(Counter)
        self._missing: defaultdict[Kind, Counter[str]] = defaultdict(Counter)

    def add(self, translations: Iterable[Translation], kind: Kind) -> None:
        """Count labels of one kind."""
        for each in translations:
            self._uses[kind, each.source][each.english] += 1
            if not each.is_covered:
                self._missing[kind][each.english] += 1

    @property
    def num_labels(self) -> int:
        """Labels counted, as often as they occurred."""
        return sum(uses.total() for uses in self._uses.values())

    @property
    def num_missing(self) -> int:
        """Labels without a Chinese word, as often as they occurred."""
        return sum(uses.total() for uses in self._missing.values())

    def as_json(self) -> dict[str, object]:
        """The report as plain JSON values.

        labels, covered: uses; share: covered / labels, 1.0 where there are no labels.
        by_source: source -> uses. rows: uses and distinct words of each kind and source, with
        the most frequent words. missing: every word without translation, most frequent first.
        """
        by_source: Counter[str] = Counter()
        for (_, source), uses in self._uses.items():
            by_source[source] += uses.total()
        labels = self.num_labels
        covered = labels - self.num_missing
        return {
            "labels": labels,
            "covered": covered,
            "share": covered / labels if labels else 1.0,
            "by_source": dict(_by_frequency(by_source)),
            "rows": [self._row(kind, source) for kind, source in sorted(self._uses, key=_order)],
            "missing": [
                {"english": english, "kind": kind, "count": count}
                for count, english, kind in sorted(
                    (-count, english, kind)
                    for kind, uses in self._missing.items()
                    for english, count in uses.items()
                )
                for count in (-count,)
            ],
        }

    def _row(self, kind: Kind, source: str) -> dict[str, object]:
        uses = self._uses[kind, source]
        return {
            "kind": kind,
            "source": source,
            "num_words": len(uses),
            "num_uses": uses.total(),
            "examples": [english for english, _ in _by_frequency(uses)[:_EXAMPLES]],
        }


def _by_frequency(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _order(key: tuple[Kind, str]) -> tuple[int, str]:
    return KINDS.index(key[0]), key[1]
