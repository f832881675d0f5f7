"""Answers questions."""

from collections import Counter

from oscar_core.models import ClassifierModel
from oscar_core.task import Knowledge
from oscar_core.tasks.vqa.collate import Batch
from oscar_core.tasks.vqa.records import Config, Prediction


def predict(
    config: Config, knowledge: Knowledge, model: ClassifierModel, batch: Batch
) -> list[Prediction]:
    """The likeliest answer to each question."""
    logits = model(batch.packed)
    odds = logits.sigmoid() if config.loss == "bce" else logits.softmax(dim=1)
    confidences, best = odds.max(dim=1)
    return [
        Prediction(
            question_id=each.question_id,
            image_id=each.image_id,
            question=each.question,
            answer=knowledge.answers[number],
            confidence=round(confidence, 5),
            question_type=each.question_type,
            answers=tuple(answer for answer, _ in Counter(each.answers).most_common()),
        )
        for each, number, confidence in zip(
            batch.examples, best.tolist(), confidences.tolist(), strict=True
        )
    ]
