"""Tells captions from every candidate image."""

import torch

from oscar_core.models import ClassifierModel
from oscar_core.task import Knowledge
from oscar_core.tasks.retrieval.collate import Ranking
from oscar_core.tasks.retrieval.records import Config, Prediction
from oscar_core.tasks.retrieval.train import log_odds

_PAIRS = 64
"""Seen at once for each caption of the batch; memory does not grow with the candidates."""


def predict(
    config: Config, knowledge: Knowledge, model: ClassifierModel, batch: Ranking
) -> list[Prediction]:
    """Scores of each caption with all candidates."""
    parts = batch.parts(_PAIRS * len(batch.examples))
    odds = torch.cat([log_odds(model(part)).cpu() for part in parts])
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
