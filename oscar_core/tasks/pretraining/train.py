"""The objectives of pretraining.

Letters: B rows, T text positions, S = T + R, R region positions, K words of a region, H width.
"""

import torch
from torch import Tensor

from oscar_core.losses import NOT_A_TARGET
from oscar_core.models import PretrainingLosses, PretrainingModel
from oscar_core.task import Losses
from oscar_core.tasks.pretraining.collate import Batch, Rows
from oscar_core.tasks.pretraining.records import Config


def losses(config: Config, model: PretrainingModel, batch: Batch, number: int) -> Losses:
    """Masked words + three-way, both means over all rows; and the region objective if it is on.

    Source: `oscar/modeling/modeling_bert.py:BertImgForPreTraining`, `run_oscarplus_pretrain.py`.
    """
    encoded = [model.encode(rows.packed) for rows in batch.rows]
    found = model.losses_of(
        encoded,
        [rows.word_labels for rows in batch.rows],
        [rows.match_labels for rows in batch.rows],
    )
    total = found.words + config.contrast_weight * found.contrast
    parts = {"words": found.words.detach()}
    if config.contrast_weight > 0:
        parts |= _contrast_parts(found, torch.cat([rows.match_labels for rows in batch.rows]))
    if config.region_weight > 0:
        named = _region_loss(model, [e.sequence for e in encoded], batch.rows)
        total = total + config.region_weight * named
        parts["regions"] = named.detach()
    return Losses(total=total, parts=parts)


def _contrast_parts(found: PretrainingLosses, matches: Tensor) -> dict[str, Tensor]:
    """What the loss curves show of the three-way objective."""
    parts = {"contrast": found.contrast.detach()}
    asked = matches != NOT_A_TARGET
    if bool(asked.any()):
        right = found.contrast_logits.detach().argmax(dim=1)[asked] == matches[asked]
        parts["contrast_accuracy"] = right.float().mean()
    return parts


def _region_loss(
    model: PretrainingModel, sequences: list[Tensor], rows: tuple[Rows, ...]
) -> Tensor:
    """Cross entropy of each region's words under one softmax from its encoder output."""
    states, labels = [], []
    for sequence, each in zip(sequences, rows, strict=True):
        states.append(sequence[:, each.packed.input_ids.shape[1] :].flatten(0, 1))
        labels.append(each.region_words.flatten(0, 1))
    words = torch.cat(labels)
    known = (words != NOT_A_TARGET).any(dim=1)
    logits = model.word_head(torch.cat(states)[known], model.word_embedding)
    log_probabilities = logits.log_softmax(dim=1)
    told = words[known]
    right = log_probabilities.gather(1, told.clamp(min=0))
    is_told = (told != NOT_A_TARGET).to(right.dtype)
    loss: Tensor = -(right * is_told).sum() / is_told.sum().clamp(min=1)
    return loss


def num_right(config: Config, model: PretrainingModel, batch: Batch) -> tuple[int, int]:
    """Rows all of whose masked words are told rightly."""
    right = asked = 0
    for rows in batch.rows:
        told = model(rows.packed)[0].argmax(dim=2)
        is_masked = rows.word_labels != NOT_A_TARGET
        good = ((told == rows.word_labels) | ~is_masked).all(dim=1)
        has_question = is_masked.any(dim=1)
        right += int((good & has_question).sum())
        asked += int(has_question.sum())
    return right, asked
