"""The objective of captioning: tell the masked words."""

from oscar_core.losses import CaptionLoss, caption_loss
from oscar_core.models import CaptionModel
from oscar_core.task import Losses
from oscar_core.tasks.captioning.collate import Batch
from oscar_core.tasks.captioning.records import Config


def losses(config: Config, model: CaptionModel, batch: Batch, number: int) -> Losses:
    """Smoothed divergence at the masked words. Source: `modeling_bert.py:BertCaptioningLoss`."""
    logits = model(batch.captions.packed, batch.captions.masked)
    targets = batch.captions.targets()
    settings = CaptionLoss(
        label_smoothing=config.label_smoothing,
        drop_worst_ratio=config.drop_worst_ratio,
        drop_worst_after=config.drop_worst_after,
    )
    total = caption_loss(logits, targets, settings, number=number, compat=config.loss_compat)
    right = (logits.detach().argmax(dim=1) == targets).float().mean()
    return Losses(total=total, parts={"accuracy": right}, terms={"words": total})


def num_targets(config: Config, batch: Batch) -> dict[str, int]:
    """Masked words, over which both the loss and the curve are means."""
    num = int(batch.captions.masked.sum())
    return {"words": num, "accuracy": num}
