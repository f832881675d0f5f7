"""The objectives of pretraining.

Letters: B rows, T text positions, S = T + R, R region positions, K words of a region, H width.
"""

import torch
from torch import Tensor

from oscar_core.losses import NOT_A_TARGET, cross_entropy
from oscar_core.models import PretrainingModel
from oscar_core.ragged import Read, read
from oscar_core.task import Losses
from oscar_core.tasks.pretraining.collate import Batch, Rows
from oscar_core.tasks.pretraining.records import Config


def losses(config: Config, model: PretrainingModel, batch: Batch, number: int) -> Losses:
    """Masked words + three-way, both means over all rows; and the region objective if it is on.

    Padding does not go through the encoder, and its last layer works on what is read here alone.

    Source: `oscar/modeling/modeling_bert.py:BertImgForPreTraining`, `run_oscarplus_pretrain.py`.
    """
    found = [_read(config, model, rows) for rows in batch.rows]
    word_states = [each.wanted[_is_word(rows)[_is_wanted(config, rows)]] for each, rows in found]
    word_logits = model.word_head(torch.cat(word_states), model.word_embedding)
    word_labels = torch.cat([rows.word_labels[_is_word(rows)] for rows in batch.rows])
    terms = {"words": cross_entropy(word_logits, word_labels, config.loss_compat)}
    parts = {"words": terms["words"].detach()}
    matches = torch.cat([rows.match_labels for rows in batch.rows])
    contrast_logits = model.contrast_head(torch.cat([each.pooled for each, _ in found]))
    contrast = cross_entropy(contrast_logits, matches)
    terms["contrast"] = config.contrast_weight * contrast
    if config.contrast_weight > 0:
        parts |= _contrast_parts(contrast, contrast_logits, matches)
    if config.region_weight > 0:
        named = _region_loss(config, model, found)
        terms["regions"] = config.region_weight * named
        parts["regions"] = named.detach()
    total = torch.stack(list(terms.values())).sum()
    return Losses(total=total, parts=parts, terms=terms)


def num_targets(config: Config, batch: Batch) -> dict[str, int]:
    """How many labels each term of the losses is a mean over."""
    found = {
        "words": sum(int(_is_word(rows).sum()) for rows in batch.rows),
        "contrast": sum(int((rows.match_labels != NOT_A_TARGET).sum()) for rows in batch.rows),
    }
    if config.region_weight > 0:
        found["regions"] = sum(
            int((rows.region_words != NOT_A_TARGET).sum()) for rows in batch.rows
        )
    return found


def _read(config: Config, model: PretrainingModel, rows: Rows) -> tuple[Read, Rows]:
    return read(model.encoder, rows.packed, _is_wanted(config, rows)), rows


def _is_word(rows: Rows) -> Tensor:
    """(B, S) bool: a masked word."""
    return rows.word_labels != NOT_A_TARGET


def _is_region(config: Config, rows: Rows) -> Tensor:
    """(B, S) bool: a region to be named."""
    is_region = torch.zeros_like(rows.word_labels, dtype=torch.bool)
    if config.region_weight > 0:
        num_text = rows.packed.input_ids.shape[1]
        is_region[:, num_text:] = (rows.region_words != NOT_A_TARGET).any(dim=2)
    return is_region


def _is_wanted(config: Config, rows: Rows) -> Tensor:
    """(B, S) bool: where the encoder's output teaches something."""
    return _is_word(rows) | _is_region(config, rows)


def _contrast_parts(loss: Tensor, logits: Tensor, matches: Tensor) -> dict[str, Tensor]:
    """What the loss curves show of the three-way objective."""
    parts = {"contrast": loss.detach()}
    asked = matches != NOT_A_TARGET
    if bool(asked.any()):
        right = logits.detach().argmax(dim=1)[asked] == matches[asked]
        parts["contrast_accuracy"] = right.float().mean()
    return parts


def _region_loss(config: Config, model: PretrainingModel, found: list[tuple[Read, Rows]]) -> Tensor:
    """Cross entropy of each region's words under one softmax from its encoder output."""
    states, labels = [], []
    for each, rows in found:
        states.append(each.wanted[_is_region(config, rows)[_is_wanted(config, rows)]])
        labels.append(rows.region_words[(rows.region_words != NOT_A_TARGET).any(dim=2)])
    told = torch.cat(labels)
    logits = model.word_head(torch.cat(states), model.word_embedding)
    right = logits.log_softmax(dim=1).gather(1, told.clamp(min=0))
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
