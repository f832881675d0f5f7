"""What pretraining is told, and what it works on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from oscar_core.errors import TaskError
from oscar_core.views import View, Views, ViewSettings

Negatives = Literal["any", "second", "answers"]
MATCHED, WRONG_SECOND, WRONG_FIRST = 0, 1, 2
"""Labels of the three-way objective."""


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
class Config:
    """Pretraining; the defaults are Mengzi-Oscar. What follows `reads_second` is ours, and off.

    Attributes:
        languages: Of captions and questions; the tags are as they are stored.
        max_text: Wordpieces of both texts with [CLS] and [SEP].
        mask_probability: Of each wordpiece.
        mismatch: Share of examples one of whose texts is wrong.
        wrong_first: Share of all examples whose first text (caption, question) is wrong; the rest
            of `mismatch` has a wrong second one (tags, answer). At most 0.5.
        negatives: Where a wrong second text comes from: "any" text of another image, its
            "second" text, or "answers" of questions alone.
        learns_mismatched: Learn the masked words of mismatched examples, too.
        reads_second: Whether there is a second text (`use_b`).
        question_share: Share of question rows in a batch; None: as many as there are.
        balances_kinds: With `question_share`: every kind of question has an equal part of it.
        answer_mask: Share of question rows whose whole answer is masked, and nothing else of the
            answer; the question is then masked at `question_mask`.
        question_mask: See `answer_mask`.
        label_mask: Probability for wordpieces that belong to a word of the detector; None: as the
            others.
        tag_drop: Share of caption rows without tags.
        near_negatives: Share of wrong captions that come from an image with the same tags.
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
    max_text: int = 35
    mask_probability: float = 0.15
    mismatch: float = 0.5
    wrong_first: float = 0.25
    negatives: Negatives = "second"
    learns_mismatched: bool = True
    reads_second: bool = True
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
                raise TaskError(f"{name} must lie in 0..1, not {getattr(self, name)}")
        if self.wrong_first > 0.5 or self.wrong_first > self.mismatch:
            raise TaskError("wrong_first must be at most 0.5 and at most mismatch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One caption with its tags, or one question with its answer.

    second: tags, or the answer
    kind:   "caption", else the question's type
    """

    image_id: str
    first: str
    second: str
    is_question: bool
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """All documents of the training split, from which wrong texts are drawn.

    answered:    indices of the question rows
    near:        sorted tags -> indices of the caption rows of images with just these tags
    label_words: every word of the detector that the images bear
    """

    documents: tuple[Document, ...]
    answered: tuple[int, ...]
    near: Mapping[str, tuple[int, ...]]
    label_words: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One document with its image."""

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
