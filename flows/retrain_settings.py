"""What a scheduled retraining does with new data; YAML section `retrain`.

Decides when a run is started and what becomes of its models; no part of a fingerprint.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What one metric must reach before a candidate replaces the current model.

    at_least: lowest value; None for any
    may_fall: how much lower than the current model's value it may be; None: not compared
    """

    at_least: float | None = None
    may_fall: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraining:
    """Settings of `oscar-flow deploy` and `models`.

    start:         "last": trainings go on from the current model's weights; "scratch": anew
    keep_detector: the current model's detector sees new photos, so that only those are extracted;
                   False trains a new one, and all photos are extracted again
    gate:          metric of metrics.json -> its bound; every one must hold. Empty: always promoted
    keep:          how many past versions stay restorable
    """

    start: Literal["last", "scratch"] = "scratch"
    keep_detector: bool = True
    gate: Mapping[str, Bound] = field(default_factory=dict)
    keep: int = 5

    def __post_init__(self) -> None:
        """A version to go back to must stay."""
        if self.keep < 1:
            raise ValueError("keep must be 1 or more")
