"""What the report page shows, as values: everything is text and numbers, nothing is a path.

Fractions are in [0, 1]. Boxes are fractions of the photo's width and height.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["right", "features_shuffled", "shuffled", "majority", "chance"]
"""What a score was measured with: the right photo, a control, or no model at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """A number with its name."""

    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRow:
    """One finished step. begins, ends: place on the time axis as fractions, None if unknown."""

    step: str
    title: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    begins: float | None
    ends: float | None
    counts: tuple[Count, ...]
    num_quarantined: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """All finished steps in the order of the plan.

    wall_seconds: time in which at least one step worked; pauses between two starts do not count
    breaks:       where the axis leaves out a pause, fractions
    """

    stages: tuple[StageRow, ...]
    wall_seconds: float
    breaks: tuple[float, ...]
    is_clocked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One value of a measure. length: share of the full width."""

    role: Role
    label: str
    value: float
    length: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A headline figure beside its controls. verdict: what the comparison says, "" if nothing."""

    key: str
    title: str
    subtitle: str
    value: float
    is_fraction: bool
    bars: tuple[Bar, ...]
    verdict: str
    is_above: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRow:
    """One line of the table of all metrics; None where a control was not measured."""

    key: str
    right: float
    features_shuffled: float | None
    shuffled: float | None
    majority: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One loss over the steps of a training."""

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseMark:
    """Where a phase of a training began."""

    name: str
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LossChart:
    """The losses of one training; the first curve is the sum. phases: () where there is one."""

    step: str
    title: str
    curves: tuple[Curve, ...]
    phases: tuple[PhaseMark, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A photo in the page. url: data URL of a small JPEG, "" where it could not be opened."""

    image_id: str
    url: str
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionShown:
    """One region with its words. is_drawn: its box lies on the photo."""

    number: int
    left: float
    top: float
    width: float
    height: float
    english: str
    chinese: str
    confidence: float
    is_drawn: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPart:
    """A piece of a caption; verdict on a colour phrase: "true", "false" or "" for other text."""

    text: str
    verdict: Literal["", "true", "false"] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GalleryEntry:
    """One photo, what was seen, what was written about it, what people wrote.

    is_new_combination: it shows a kind and colour that training never showed together
    """

    picture: Picture
    regions: tuple[RegionShown, ...]
    caption: tuple[TextPart, ...]
    caption_features_shuffled: tuple[TextPart, ...]
    language: str
    references: tuple[str, ...]
    is_new_combination: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedPicture:
    """A photo found for a text; rank from 1."""

    picture: Picture
    rank: int
    is_right: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TextQuery:
    """A text, the first photos found for it, and the rank of the right one (1 is best).

    found: the right one stands at the end where it is not among the first
    """

    text: str
    found: tuple[RankedPicture, ...]
    rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedText:
    """A text found for a photo."""

    text: str
    rank: int
    is_right: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureQuery:
    """A photo, the texts found for it, and the rank of its best own text."""

    picture: Picture
    found: tuple[RankedText, ...]
    rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """Examples both ways among `num_pictures` photos and `num_texts` texts."""

    by_text: tuple[TextQuery, ...]
    by_picture: tuple[PictureQuery, ...]
    num_pictures: int
    num_texts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionExample:
    """One question; expected: the commonest answer people gave; accuracy by the VQA rule."""

    picture: Picture
    question: str
    answer: str
    expected: str
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionKind:
    """All questions of one kind. is_above: better than each of its controls beyond the noise."""

    kind: str
    num_questions: int
    bars: tuple[Bar, ...]
    accuracy: float
    verdict: str
    is_above: bool
    examples: tuple[QuestionExample, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageRow:
    """Words of one kind by where their translation came from."""

    kind: str
    source: str
    num_words: int
    num_uses: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How much of what the detector said could be translated.

    missing:     the most frequent words without a translation, of `num_missing`
    share:       of all labels, counted as often as they were said
    """

    rows: tuple[CoverageRow, ...]
    missing: tuple[str, ...]
    num_missing: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedGroup:
    """What one step dropped for one reason; entries: the first few, one line each."""

    step: str
    reason: str
    count: int
    entries: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One attempt at a step.

    began:   date and time, UTC
    outcome: one of the words of `flows.attempts`
    note:    why it did not end well, or what was different
    """

    number: int
    began: str
    seconds: float
    outcome: str
    is_done: bool
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedStep:
    """A step that needed more than one attempt; attempts: the latest of them."""

    step: str
    num_attempts: int
    attempts: tuple[AttemptRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One line of the page's head or foot."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """Everything the page and metrics.json are made of.

    metrics:  flat, as in metrics.json
    versions: the block `_versions`
    missing:  section -> why it is empty
    tried:    steps that needed more than one attempt
    """

    title: str
    lead: str
    facts: tuple[Fact, ...]
    timeline: Timeline
    metrics: Mapping[str, float]
    versions: Mapping[str, str]
    measures: tuple[Measure, ...]
    metric_rows: tuple[MetricRow, ...]
    losses: tuple[LossChart, ...]
    gallery: tuple[GalleryEntry, ...]
    retrieval: Retrieval | None
    questions: tuple[QuestionKind, ...]
    coverage: Coverage | None
    dropped: tuple[DroppedGroup, ...]
    config: str
    missing: Mapping[str, str] = field(default_factory=dict)
    tried: tuple[TriedStep, ...] = ()
