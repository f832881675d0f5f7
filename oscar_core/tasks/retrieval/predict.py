"""Tells captions from every candidate image."""

import torch

from oscar_core.models import ClassifierModel
from oscar_core.task import Knowledge
from oscar_core.tasks.retrieval.collate import Batch
from oscar_core.tasks.retrieval.records import Config, Prediction
from oscar_core.tasks.retrieval.train import log_odds

_ROWS = 256


def predict(
    config: Config, knowledge: Knowledge, model: ClassifierModel, batch: Batch
) -> list[Prediction]:
    """Scores of each caption with all candidates."""
    rows = torch.arange(len(batch.labels), device=batch.labels.device)
    parts = torch.split(rows, _ROWS)
    odds = torch.cat([log_odds(model(batch.packed.rows(part))) for part in parts])
    table = odds.view(len(batch.examples), -1).tolist()
    return [
        Prediction(
            caption_id=each.caption_id,
            image_id=each.image_id,
            text=each.text,
            scores=tuple(round(value, 5) for value in row),
        )
        for each, row in zip(batch.examples, table, strict=True)
    ]
