"""The encoder with the head of each task; a batch goes in, logits come out.

Letters: B examples, T text positions, S text and region positions, H hidden width,
V vocabulary size, C classes, K choices (images) of one example.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from oscar_core.compat import OUR_LOSSES, LossCompat
from oscar_core.config import OscarConfig
from oscar_core.encoder import Encoded, OscarEncoder, initialise
from oscar_core.heads import AnswerHead, WordHead, answer_head
from oscar_core.losses import NOT_A_TARGET, cross_entropy
from oscar_core.packing import PackedBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainingLosses:
    """Both published objectives, to be added with weight 1 each.

    words:           ()      masked words
    contrast:        ()      does the text belong to the image
    contrast_logits: (B, C)  of all batches in a row
    """

    words: Tensor
    contrast: Tensor
    contrast_logits: Tensor


class _OnEncoder(nn.Module):
    """Anything that starts with one pass of the encoder."""

    def __init__(self, config: OscarConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = OscarEncoder(config)

    @property
    def word_embedding(self) -> Tensor:
        """(V, H), row of a word by its id."""
        weight: Tensor = self.encoder.embeddings.word_embeddings.weight
        return weight

    def encode(self, batch: PackedBatch) -> Encoded:
        """Run the encoder over text and regions."""
        encoded: Encoded = self.encoder(
            batch.input_ids,
            batch.token_type_ids,
            batch.attention_mask,
            batch.region_features,
            batch.position_ids,
        )
        return encoded


class PretrainingModel(_OnEncoder):
    """Masked words and the contrast between matched and polluted texts.

    Contrast classes with 3: 0 matched, 1 another `text_b`, 2 another `text_a`; with 2: 0 matched,
    1 polluted.

    Source: `oscar/modeling/modeling_bert.py:BertImgForPreTraining`.
    """

    def __init__(self, config: OscarConfig, *, num_contrast_classes: int = 3) -> None:
        super().__init__(config)
        self.word_head = WordHead(config)
        self.contrast_head = nn.Linear(config.hidden_size, num_contrast_classes)
        initialise(self.contrast_head, config.initializer_range)

    def forward(self, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """Word logits (B, S, V) at every position and contrast logits (B, C)."""
        encoded = self.encode(batch)
        words = self.word_head(encoded.sequence, self.word_embedding)
        return words, self.contrast_head(encoded.pooled)

    def losses(
        self,
        batch: PackedBatch,
        word_labels: Tensor,
        contrast_labels: Tensor,
        compat: LossCompat = OUR_LOSSES,
    ) -> PretrainingLosses:
        """Both objectives; words are scored only where there is something to learn.

        Args:
            batch: With masked words.
            word_labels: (B, S) int64, -1 where nothing is to be learned.
            contrast_labels: (B,) int64, -1 to leave an example out.
            compat: See `gives_nan_without_masks`.
        """
        return self.losses_of([self.encode(batch)], [word_labels], [contrast_labels], compat)

    def losses_of(
        self,
        encoded: Sequence[Encoded],
        word_labels: Sequence[Tensor],
        contrast_labels: Sequence[Tensor],
        compat: LossCompat = OUR_LOSSES,
    ) -> PretrainingLosses:
        """The same over several encoded batches of different lengths: one mean over all of them.

        Args:
            encoded: What `encode` returned for each batch.
            word_labels: (B, S) of each batch, as in `losses`.
            contrast_labels: (B,) of each batch.
            compat: See `gives_nan_without_masks`.
        """
        chosen = [labels != NOT_A_TARGET for labels in word_labels]
        states = [each.sequence[where] for each, where in zip(encoded, chosen, strict=True)]
        words = [labels[where] for labels, where in zip(word_labels, chosen, strict=True)]
        word_logits = self.word_head(torch.cat(states), self.word_embedding)
        contrast_logits: Tensor = self.contrast_head(torch.cat([each.pooled for each in encoded]))
        return PretrainingLosses(
            words=cross_entropy(word_logits, torch.cat(words), compat),
            contrast=cross_entropy(contrast_logits, torch.cat(list(contrast_labels))),
            contrast_logits=contrast_logits,
        )


class ClassifierModel(_OnEncoder):
    """One answer for each example: VQA, GQA, retrieval.

    Source: `oscar/modeling/modeling_bert.py:ImageBertForSequenceClassification`.
    """

    def __init__(self, config: OscarConfig, head: AnswerHead) -> None:
        super().__init__(config)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.classifier = answer_head(head, config)

    def forward(self, batch: PackedBatch) -> Tensor:
        """Logits (B, C)."""
        logits: Tensor = self.classifier(self.dropout(self.encode(batch).pooled))
        return logits


class PairModel(_OnEncoder):
    """One answer for several images of one statement, looked at side by side: NLVR2.

    Source: `oscar/modeling/modeling_bert.py:ImageBertForMultipleChoice`.
    """

    def __init__(self, config: OscarConfig, head: AnswerHead, *, num_choices: int = 2) -> None:
        super().__init__(config)
        self.num_choices = num_choices
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.classifier = answer_head(
            head, config, num_pooled=num_choices, has_norm=config.has_region_norm
        )

    def forward(self, batch: PackedBatch) -> Tensor:
        """Logits (B, C) from a batch of B * K rows, the K images of an example in a row."""
        pooled = self.dropout(self.encode(batch).pooled)
        logits: Tensor = self.classifier(pooled.reshape(-1, self.num_choices * pooled.shape[-1]))
        return logits


class ChoiceModel(_OnEncoder):
    """Each choice of an example scored by itself.

    Source: `oscar/modeling/modeling_bert.py:OscarForMultipleChoice`.
    """

    def __init__(
        self, config: OscarConfig, head: AnswerHead, compat: LossCompat = OUR_LOSSES
    ) -> None:
        super().__init__(config)
        if compat.scores_choices_with_two:
            head = replace(head, num_labels=2)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.classifier = answer_head(head, config)

    def forward(self, batch: PackedBatch) -> Tensor:
        """Logits (B * K, C) from a batch of B * K rows."""
        logits: Tensor = self.classifier(self.dropout(self.encode(batch).pooled))
        return logits


class CaptionModel(_OnEncoder):
    """Tells the masked words of a caption, and so, one [MASK] at a time, whole captions.

    Attributes:
        is_tied: The output projection is the word embedding; frozen together with it.

    Source: `oscar/modeling/modeling_bert.py:BertForImageCaptioning`.
    """

    def __init__(
        self, config: OscarConfig, *, is_tied: bool = True, freezes_embedding: bool = False
    ) -> None:
        super().__init__(config)
        self.is_tied = is_tied
        self.word_head = WordHead(config, is_tied=is_tied)
        if self.word_head.decoder is not None:
            self.word_head.decoder.weight.data.copy_(self.word_embedding.data)
        self.word_embedding.requires_grad_(not freezes_embedding)

    def forward(self, batch: PackedBatch, chosen: Tensor | None = None) -> Tensor:
        """Word logits at text positions.

        Args:
            batch: As `pack_captions` made it.
            chosen: (B, T) bool, where to look; None for every text position.

        Returns:
            (number chosen, V), row-major; or (B, T, V).
        """
        states = self.encode(batch).sequence[:, : batch.input_ids.shape[1]]
        return self.words(states if chosen is None else states[chosen])

    def words(self, states: Tensor) -> Tensor:
        """Word logits of encoded positions: (..., H) -> (..., V)."""
        logits: Tensor = self.word_head(states, self.word_embedding)
        return logits
