"""Masks words of packed batches for the masked-word objective of pretraining.

Letters: B examples, T text positions, S text and region positions.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from oscar_core.packing import PackedBatch
from oscar_core.tokens import Tokenizer

NOT_A_TARGET = -1
"""Label of positions from which nothing is to be learned; `BertImgForPreTraining`."""


def mask_words(
    batch: PackedBatch,
    tokenizer: Tokenizer,
    draw: np.random.Generator,
    *,
    probability: float = 0.15,
) -> tuple[PackedBatch, Tensor]:
    """Mask words of both texts, each by itself: no whole words, no minimum, no cap.

    Of the masked ones 8 in 10 become [MASK], 1 in 10 any word that is not special (the original
    may draw special tokens too: Q14), 1 in 10 stays. [CLS] and [SEP] are never masked.

    Args:
        batch: As `pack` made it.
        tokenizer: Of the model.
        draw: Source of the draws; the same generator state gives the same masks.
        probability: Of each word.

    Returns:
        The batch with other ids, and labels (B, S) int64: the original id where masked, else -1.

    Source: `oscar/datasets/oscar_tsv.py:OscarTSVDataset.random_word`.
    """
    ids = batch.input_ids.numpy()
    frame = (tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id)
    chance = draw.random(ids.shape)
    is_masked = ~np.isin(ids, frame) & (chance < probability)
    kind = chance / probability
    special = {*frame, tokenizer.mask_id, tokenizer.unk_id}
    ordinary = np.array([i for i in range(len(tokenizer)) if i not in special])
    words = ordinary[draw.integers(0, len(ordinary), ids.shape)]
    changed = np.where(is_masked & (kind < 0.8), tokenizer.mask_id, ids)
    changed = np.where(is_masked & (kind >= 0.8) & (kind < 0.9), words, changed)
    num_positions = batch.attention_mask.shape[-1]
    labels = np.full((len(ids), num_positions), NOT_A_TARGET, dtype=np.int64)
    labels[:, : ids.shape[1]][is_masked] = ids[is_masked]
    return replace(batch, input_ids=torch.from_numpy(changed)), torch.from_numpy(labels)
