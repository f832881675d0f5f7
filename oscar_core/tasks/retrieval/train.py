"""The objective of retrieval.

Letters: B groups, n captions and images of a group, P pairs.
"""

import torch
from torch import Tensor
from torch.nn import functional

from oscar_core.losses import cross_entropy
from oscar_core.models import ClassifierModel
from oscar_core.task import Losses
from oscar_core.tasks.retrieval.collate import Batch
from oscar_core.tasks.retrieval.records import Config


def losses(config: Config, model: ClassifierModel, batch: Batch, number: int) -> Losses:
    """Each pair by itself; with groups also the choice among captions and among images.

    Source: `oscar/run_retrieval.py`, cross entropy over two classes.
    """
    logits = model(batch.packed)
    pairs = cross_entropy(logits, batch.labels)
    if not config.group_size:
        right = (logits.detach().argmax(dim=1) == batch.labels).float().mean()
        return Losses(total=pairs, parts={"accuracy": right})
    size = round((len(batch.labels) / len(batch.examples)) ** 0.5)
    odds = log_odds(logits).view(-1, size, size)
    own = torch.arange(size, device=odds.device).expand(len(odds), size)
    images = functional.cross_entropy(odds.flatten(0, 1), own.flatten())
    captions = functional.cross_entropy(odds.transpose(1, 2).flatten(0, 1), own.flatten())
    right = (odds.detach().argmax(dim=2) == own).float().mean()
    return Losses(
        total=(images + captions) / 2 + pairs,
        parts={"pairs": pairs.detach(), "accuracy": right},
    )


def log_odds(logits: Tensor) -> Tensor:
    """(P, 2) -> (P,): rises with the probability of "belongs together" and does not saturate."""
    return logits[:, 1] - logits[:, 0]
