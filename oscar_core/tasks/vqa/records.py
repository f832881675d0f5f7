"""What VQA is told, what it works on, what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from oscar_core.compat import OUR_LOSSES, LossCompat
from oscar_core.metrics.answers import MIN_QUESTIONS
from oscar_core.views import View, Views, ViewSettings

Loss = Literal["bce", "cross_entropy", "kl"]
Head = Literal["linear", "mlp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """VQA; the defaults are VinVL base.

    Attributes:
        language: Of the questions.
        max_text: Wordpieces of question and tags with [CLS] and [SEP].
        min_questions: Answers of fewer training questions cannot be chosen.
        loss: "bce": each answer by itself, on soft scores. "cross_entropy": on the most common
            answer alone (as GQA). "kl": divergence of the soft scores from the probabilities of all
            answers.
        head: One linear layer, or an "mlp" with one hidden layer.
        loss_compat: Quirks of the original's losses: Q2, V2, for "kl".

    Source: recipe of specs/tasks.md 8; `oscar/run_vqa.py`.
    """

    view: ViewSettings = field(default_factory=ViewSettings)
    language: str = "zh"
    max_text: int = 128
    min_questions: int = MIN_QUESTIONS
    loss: Loss = "bce"
    head: Head = "linear"
    loss_compat: LossCompat = OUR_LOSSES


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One question with its image.

    targets: answer -> soft score; () for questions to be answered
    answers: what people said
    """

    question_id: str
    image_id: str
    question: str
    question_type: str
    answers: tuple[str, ...]
    targets: Mapping[str, float]
    views: Views

    @property
    def view(self) -> View:
        """What is seen of the image."""
        return self.views[self.image_id]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The likeliest answer.

    confidence: its probability, against all others ("cross_entropy", "kl") or by itself ("bce")
    answers:    what people said, distinct, the most common first
    """

    question_id: str
    image_id: str
    question: str
    answer: str
    confidence: float
    question_type: str
    answers: tuple[str, ...]
