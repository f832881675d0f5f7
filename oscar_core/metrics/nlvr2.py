"""Accuracy and consistency of NLVR2.

An identifier reads `split-set-pair-sentence`. Source: nlvr2/eval/metrics.py of lil-lab/nlvr.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from oscar_core.metrics.errors import (
    CoverageError,
    MetricFileError,
    MetricInputError,
    name_ids,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairScores:
    """Fractions: of right answers, and of sentences whose answers are all right."""

    accuracy: float
    consistency: float


def nlvr2_scores(labels: Mapping[str, str], predictions: Mapping[str, str]) -> PairScores:
    """Score "True"/"False" predictions, compared without regard to case and otherwise exactly.

    Args:
        labels: "True" or "False" by identifier.
        predictions: By identifier; others than those of the labels are ignored.

    Raises:
        CoverageError: An example has no prediction.
        MetricInputError: No example, or an identifier of another form.
    """
    if not labels:
        raise MetricInputError("nlvr2: no example to score")
    missing = [identifier for identifier in labels if identifier not in predictions]
    if missing:
        raise CoverageError(
            f"nlvr2: {len(missing)} of {len(labels)} predictions are missing: {name_ids(missing)}"
        )
    groups: defaultdict[tuple[str, str, str], list[bool]] = defaultdict(list)
    for identifier, label in labels.items():
        parts = identifier.split("-")
        if len(parts) != 4:
            raise MetricInputError(f"nlvr2: {identifier!r} does not read split-set-pair-sentence")
        split, image_set, _, sentence = parts
        is_right = predictions[identifier].lower() == label.lower()
        groups[split, image_set, sentence].append(is_right)
    verdicts = [verdict for group in groups.values() for verdict in group]
    return PairScores(
        accuracy=sum(verdicts) / len(verdicts),
        consistency=sum(map(all, groups.values())) / len(groups),
    )


def read_prediction_rows(lines: Iterable[str]) -> dict[str, str]:
    """Predictions from CSV lines `identifier,prediction`; of repeated rows the last counts.

    Only line ends are stripped: a space after the comma makes a prediction wrong.

    Raises:
        MetricFileError: A line without comma.
    """
    predictions: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        identifier, comma, prediction = line.rstrip("\r\n").partition(",")
        if not comma:
            raise MetricFileError(f"nlvr2 predictions: line {number}: no comma")
        predictions[identifier] = prediction
    return predictions
