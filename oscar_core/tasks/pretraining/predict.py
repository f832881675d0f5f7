"""Reads the answers to questions from the masks in their place."""

import torch

from oscar_core.losses import NOT_A_TARGET
from oscar_core.models import PretrainingModel
from oscar_core.task import Knowledge
from oscar_core.tasks.pretraining.collate import Batch
from oscar_core.tasks.pretraining.records import Config, Prediction


@torch.no_grad()
def predict(
    config: Config, knowledge: Knowledge, model: PretrainingModel, batch: Batch
) -> list[Prediction]:
    """One answer a question row, each masked place by itself."""
    vocabulary = knowledge.tokenizer.vocabulary
    predictions = []
    for rows in batch.rows:
        told = model(rows.packed)[0].argmax(dim=2)
        for number, (image_id, kind, question) in enumerate(rows.origins):
            places = rows.word_labels[number] != NOT_A_TARGET
            words, answer = told[number][places], rows.word_labels[number][places]
            predictions.append(
                Prediction(
                    image_id=image_id,
                    kind=kind,
                    question=question,
                    told=" ".join(vocabulary[int(i)] for i in words),
                    answer=" ".join(vocabulary[int(i)] for i in answer),
                )
            )
    return predictions
