"""What pretraining is told, and what it works on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from oscar_core.compat import OUR_LOSSES, OUR_SAMPLES, LossCompat, SampleCompat
from oscar_core.errors import TaskError
from oscar_core.views import View, Views, ViewSettings

Negatives = Literal["any", "second", "answers"]
MATCHED, WRONG_SECOND, WRONG_FIRST = 0, 1, 2
"""Labels of the three-way objective; where there are two classes, both kinds of wrong are 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstKind:
    """An opening phase of one kind of question, for small models on small data.

    A look-up "word -> region -> attribute" forms quickly where it is all there is to learn.

    Attributes:
        question_type: The kind.
        goal: The phase ends once this share of the probe is answered rightly.
        max_steps: ... or after so many updates.
        check_every: Updates between two looks.
        num_probe_images: Training images kept aside for the looks, in all phases.
    """

    question_type: str
    goal: float = 0.85
    max_steps: int = 300
    check_every: int = 20
    num_probe_images: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """A second set of examples with a loss of its own, as VinVL's web captions.

    Wrong texts come from its own documents.

    Attributes:
        sources: Names of its sources; the main set is all others.
        loss_weight: Of its mean loss in the total; the main set has the rest of 1. There is no
            default: the original's, 0, trains on nothing (Q28).
        negatives: As `Config.negatives`; `--extra_textb_sample_mode`.
        share: Of every batch. The original gives both sets batches of the same size.

    Source: `oscar/run_oscarplus_pretrain.py`, `--extra_dataset_file`; specs/oscar.md 8.
    """

    sources: tuple[str, ...]
    loss_weight: float
    negatives: Negatives = "second"
    share: float = 0.5

    def __post_init__(self) -> None:
        """Refuse a set that takes part in nothing."""
        if not self.sources:
            raise TaskError("extra: sources must name at least one source")
        for name in ("loss_weight", "share"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise TaskError(f"extra: {name} must lie between 0 and 1, {_not(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Pretraining; the defaults are Mengzi-Oscar. After `loss_compat` all is ours, and off.

    Attributes:
        languages: Of captions and questions; the tags are as they are stored.
        sources: How often a text of a source is drawn compared with one of another: 2.0 twice as
            often, 0 never. Sources that are not named have 1.0.
        extra: A second set of examples with a loss of its own.
        window: Row groups of stored regions whose examples are shuffled together, so that what is
            read at a time fits into memory; 0: all. A row group holds 16 images, 1024 of them
            3.4 GB of 50 regions an image; 6 of 100 examples then meet their image again in a
            batch of 1024 (`python -m benchmarks shuffle`).
        max_text: Wordpieces of both texts with [CLS] and [SEP].
        mask_probability: Of each wordpiece.
        mismatch: Share of examples one of whose texts is wrong.
        wrong_first: Share of all examples whose first text (caption, question) is wrong; the rest
            of `mismatch` has a wrong second one (tags, answer). At most 0.5.
        negatives: Where a wrong second text comes from: "any" text of another image, its
            "second" text, or "answers" of questions alone.
        learns_mismatched: Learn the masked words of mismatched examples, too.
        reads_second: Whether there is a second text (`use_b`).
        compat: Quirks of the original's samples.
        loss_compat: Of its losses: Q1.
        question_share: Share of question rows in a batch; None: as many as there are.
        balances_kinds: With `question_share`: every kind of question has an equal part of it.
        answer_mask: Share of question rows whose whole answer is masked, and nothing else of the
            answer; the question is then masked at `question_mask`.
        question_mask: See `answer_mask`.
        label_mask: Probability for wordpieces that belong to a word of the detector; None: as the
            others.
        tag_drop: Share of caption rows without tags.
        near_negatives: Share of wrong captions that come from an image with the same tags, where
            there is one.
        region_weight: Of the region objective: name each region (the detector's class and best
            attributes) from its encoder output; 0 is off.
        region_attributes: Attributes of each region to be named.
        region_places: Words for equal parts of the picture's width, from left to right; the region
            objective also asks in which one a region's centre lies. () leaves that out.
        contrast_weight: Of the three-way objective.
        contrast_share: Share of caption rows that are asked whether they match; below 1, these are
            masked at `mask_probability` alone, the others at `label_mask`, and never mismatched.
        contrasts_questions: Whether question rows may be mismatched.
        first: Opening phase.

    Source: `oscar/run_oscarplus_pretrain.py`; specs/oscar.md 6, 8 with the defaults of 11.
    """

    view: ViewSettings = field(default_factory=ViewSettings)
    languages: tuple[str, ...] = ("zh",)
    sources: Mapping[str, float] = field(default_factory=dict)
    extra: Extra | None = None
    window: int = 1024
    max_text: int = 35
    mask_probability: float = 0.15
    mismatch: float = 0.5
    wrong_first: float = 0.25
    negatives: Negatives = "second"
    learns_mismatched: bool = True
    reads_second: bool = True
    compat: SampleCompat = OUR_SAMPLES
    loss_compat: LossCompat = OUR_LOSSES
    question_share: float | None = None
    balances_kinds: bool = False
    answer_mask: float = 0.0
    question_mask: float = 0.15
    label_mask: float | None = None
    tag_drop: float = 0.0
    near_negatives: float = 0.0
    region_weight: float = 0.0
    region_attributes: int = 2
    region_places: tuple[str, ...] = ()
    contrast_weight: float = 1.0
    contrast_share: float = 1.0
    contrasts_questions: bool = True
    first: FirstKind | None = None

    def __post_init__(self) -> None:
        """Refuse shares that are none, and a wrong first text as the rule (Q13)."""
        for name in (
            "mask_probability",
            "mismatch",
            "wrong_first",
            "answer_mask",
            "question_mask",
            "tag_drop",
            "near_negatives",
            "contrast_share",
        ):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise TaskError(f"{name} must lie in 0..1, {_not(self, name)}")
        if self.window < 0:
            raise TaskError(f"window must not be negative, {_not(self, 'window')}")
        below = [name for name, weight in self.sources.items() if weight < 0]
        if below:
            raise TaskError(f"sources: the weight of {below[0]!r} must not be negative")
        if self.compat.accepts_any_wrong_first:
            return
        if self.wrong_first > 0.5 or self.wrong_first > self.mismatch:
            raise TaskError("wrong_first must be at most 0.5 and at most mismatch")

    @property
    def num_contrast_classes(self) -> int:
        """3, or 2 where only one of the two texts is ever wrong.

        Source: `oscar/run_oscarplus_pretrain.py`.
        """
        if self.mismatch == 0.0:
            return 3
        both = self.wrong_first > 0.0 or not self.reads_second
        return 3 if both and self.wrong_first < self.mismatch else 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One caption with its tags, or one question with its answer.

    second: tags, or the answer; tags are "" where the model reads no second text
    kind:   "caption", else the question's type
    """

    image_id: str
    first: str
    second: str
    is_question: bool
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Documents from which wrong texts are drawn.

    documents:     of the split, by number; made when asked for
    image_numbers: (documents,) int32; equal where the image is the same
    members:       numbers of the documents of this set
    answered:      those of them that are questions
    negatives:     where a wrong second text comes from
    near:          sorted tags -> members that are captions of the images with just these tags,
                   where there are several
    label_words:   every word of the detector that the images bear
    """

    documents: Sequence[Document]
    image_numbers: NDArray[np.int32]
    members: Sequence[int] | NDArray[np.int32]
    answered: Sequence[int] | NDArray[np.int32]
    negatives: Negatives = "second"
    near: Mapping[str, Sequence[int]] = field(default_factory=dict)
    label_words: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One document with its image; `number` is that of the document."""

    number: int
    document: Document
    views: Views
    corpus: Corpus

    @property
    def view(self) -> View:
        """What is seen of the image."""
        return self.views[self.document.image_id]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The answer to one question, read from masks in its place.

    kind: of question; told and answer: wordpieces joined by blanks
    """

    image_id: str
    kind: str
    question: str
    told: str
    answer: str


def _not(settings: Config | Extra, name: str) -> str:
    return f"not {getattr(settings, name)}"
