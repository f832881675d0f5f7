"""The objective of VQA."""

from oscar_core.losses import answer_loss
from oscar_core.models import ClassifierModel
from oscar_core.task import Losses
from oscar_core.tasks.vqa.collate import Batch
from oscar_core.tasks.vqa.records import Config


def losses(config: Config, model: ClassifierModel, batch: Batch, number: int) -> Losses:
    """Soft scores answer by answer or as shares, or the best answer against all others.

    Source: `oscar/modeling/modeling_bert.py:ImageBertForSequenceClassification`.
    """
    logits = model(batch.packed)
    best = batch.targets.argmax(dim=1)
    labels = best if config.loss == "cross_entropy" else batch.targets
    total = answer_loss(logits, labels, config.loss, config.loss_compat)
    right = (logits.detach().argmax(dim=1) == best).float().mean()
    return Losses(total=total, parts={"accuracy": right})
