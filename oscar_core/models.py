"""The encoder with the head of each task.

Every model is a transformers `PreTrainedModel` and answers in two ways: to a `PackedBatch`, as our
tasks ask it, with plain logits; to keyword tensors, as transformers' `Trainer` asks it, with a
`ModelOutput` that holds the loss if labels are given. Labels below 0 teach nothing. Importing this
module makes them known to transformers' Auto classes.

Letters: B examples, T text positions, S text and region positions, R region positions,
F region input width, H hidden width, V vocabulary size, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoModelForVisualQuestionAnswering,
)

from oscar_core.answering import ChoiceModel, ClassifierModel, PairModel
from oscar_core.compat import OUR_LOSSES, LossCompat
from oscar_core.config import OscarConfig
from oscar_core.encoder import Encoded, OscarEncoder
from oscar_core.heads import WordHead
from oscar_core.hub_config import MODEL_TYPE, OscarHubConfig, hub_config
from oscar_core.losses import NOT_A_TARGET, CaptionLoss, caption_loss, cross_entropy
from oscar_core.on_encoder import OnEncoder, wanted
from oscar_core.outputs import LogitsOutput, PretrainingOutput
from oscar_core.packing import PackedBatch

__all__ = [
    "CaptionModel",
    "ChoiceModel",
    "ClassifierModel",
    "PairModel",
    "PretrainingLosses",
    "PretrainingModel",
]


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


class PretrainingModel(OnEncoder):
    """Masked words and the contrast between matched and polluted texts.

    Contrast classes with 3: 0 matched, 1 another `text_b`, 2 another `text_a`; with 2: 0 matched,
    1 polluted.

    Source: `oscar/modeling/modeling_bert.py:BertImgForPreTraining`.
    """

    def __init__(
        self, config: OscarConfig | OscarHubConfig, *, num_contrast_classes: int | None = None
    ) -> None:
        config = hub_config(config, num_contrast_classes=num_contrast_classes)
        super().__init__(config)
        self.word_head = WordHead(config)
        self.contrast_head = nn.Linear(config.hidden_size, config.num_contrast_classes)
        self.post_init()

    def forward(
        self,
        batch: PackedBatch | None = None,
        *,
        input_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        region_features: Tensor | None = None,
        position_ids: Tensor | None = None,
        word_labels: Tensor | None = None,
        contrast_labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> tuple[Any, ...] | PretrainingOutput:
        """Word logits (B, S, V) at every position and contrast logits (B, C).

        Args:
            batch: Then nothing else.
            input_ids: (B, T) int64.
            token_type_ids: Likewise; 0 for the first text, 1 for the second. None: all 0.
            attention_mask: (B, S) or (B, S, S); 1 = visible.
            region_features: (B, R, F) float32.
            position_ids: As `input_ids`; None: 0..T-1.
            word_labels: (B, S) int64, or (B, T) for the text alone.
            contrast_labels: (B,) int64.
            output_attentions: Return them.
            output_hidden_states: Return the input of every layer and the last output.
            return_dict: False for a tuple.
        """
        if batch is not None:
            return self._logits(self.encode(batch))
        encoded = self.encode_tensors(
            input_ids,
            token_type_ids,
            attention_mask,
            region_features,
            position_ids,
            output_attentions,
            output_hidden_states,
        )
        words, contrast = self._logits(encoded)
        word_loss = contrast_loss = loss = None  # with labels of one objective alone, its loss
        if word_labels is not None:
            told = words[:, : word_labels.shape[1]]
            word_loss = cross_entropy(told, word_labels.clamp(min=NOT_A_TARGET))
        if contrast_labels is not None:
            contrast_loss = cross_entropy(contrast, contrast_labels.clamp(min=NOT_A_TARGET))
        given = [each for each in (word_loss, contrast_loss) if each is not None]
        if given:
            loss = torch.stack(given).sum()
        output = PretrainingOutput(
            loss=loss,
            word_logits=words,
            contrast_logits=contrast,
            hidden_states=encoded.hidden_states or None,
            attentions=encoded.attentions or None,
            word_loss=word_loss,
            contrast_loss=contrast_loss,
        )
        return output if wanted(return_dict, self.config.return_dict) else output.to_tuple()

    def _logits(self, encoded: Encoded) -> tuple[Tensor, Tensor]:
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


class CaptionModel(OnEncoder):
    """Tells the masked words of a caption, and so, one [MASK] at a time, whole captions.

    The output projection is the word embedding, frozen together with it, or (`is_tied` False) a
    matrix of its own that begins as its copy.

    Source: `oscar/modeling/modeling_bert.py:BertForImageCaptioning`.
    """

    def __init__(
        self,
        config: OscarConfig | OscarHubConfig,
        *,
        is_tied: bool | None = None,
        freezes_embedding: bool | None = None,
    ) -> None:
        config = hub_config(config, is_tied=is_tied, freezes_embedding=freezes_embedding)
        super().__init__(config)
        self.word_head = WordHead(config, is_tied=config.is_tied)
        self.post_init()
        if self.word_head.decoder is not None:
            self.word_head.decoder.weight.data.copy_(self.word_embedding.data)

    @property
    def is_tied(self) -> bool:
        """Whether the output projection is the word embedding."""
        return self.config.is_tied

    def tie_weights(self, *args: Any, **kwargs: Any) -> None:
        """As transformers does at the end of every loading; here also the freezing is redone."""
        super().tie_weights(*args, **kwargs)
        self.word_embedding.requires_grad_(not self.config.freezes_embedding)

    def forward(
        self,
        batch: PackedBatch | None = None,
        chosen: Tensor | None = None,
        *,
        input_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        region_features: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        number: int = 1,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Tensor | tuple[Any, ...] | LogitsOutput:
        """Word logits at text positions: (B, T, V).

        Args:
            batch: As `pack_captions` made it; then nothing else but `chosen`.
            chosen: (B, T) bool, where to look; the logits are (number chosen, V), row-major.
            input_ids: (B, T) int64.
            token_type_ids: Likewise; 0 for the first text, 1 for the second. None: all 0.
            attention_mask: (B, S, S) by query and key; 1 = visible.
            region_features: (B, R, F) float32.
            position_ids: As `input_ids`; None: 0..T-1.
            labels: (B, T) int64, the words to be told.
            number: Of the update, from 1, for `drop_worst_after`.
            output_attentions: Return them.
            output_hidden_states: Return the input of every layer and the last output.
            return_dict: False for a tuple.
        """
        if batch is not None:
            states = self.encode(batch).sequence[:, : batch.input_ids.shape[1]]
            return self.words(states if chosen is None else states[chosen])
        encoded = self.encode_tensors(
            input_ids,
            token_type_ids,
            attention_mask,
            region_features,
            position_ids,
            output_attentions,
            output_hidden_states,
        )
        num_text = 0 if input_ids is None else input_ids.shape[1]
        logits = self.words(encoded.sequence[:, :num_text])
        loss = None
        if labels is not None:
            asked = labels.clamp(min=NOT_A_TARGET).flatten()
            loss = caption_loss(logits.flatten(0, 1), asked, self._settings(), number=number)
        return self.output(logits, loss, encoded, return_dict)

    def words(self, states: Tensor) -> Tensor:
        """Word logits of encoded positions: (..., H) -> (..., V)."""
        logits: Tensor = self.word_head(states, self.word_embedding)
        return logits

    def _settings(self) -> CaptionLoss:
        return CaptionLoss(
            label_smoothing=self.config.label_smoothing,
            drop_worst_ratio=self.config.drop_worst_ratio,
            drop_worst_after=self.config.drop_worst_after,
        )


AutoConfig.register(MODEL_TYPE, OscarHubConfig, exist_ok=True)
AutoModel.register(OscarHubConfig, OscarEncoder, exist_ok=True)
AutoModelForPreTraining.register(OscarHubConfig, PretrainingModel, exist_ok=True)
AutoModelForMaskedLM.register(OscarHubConfig, CaptionModel, exist_ok=True)
AutoModelForSequenceClassification.register(OscarHubConfig, ClassifierModel, exist_ok=True)
AutoModelForVisualQuestionAnswering.register(OscarHubConfig, ClassifierModel, exist_ok=True)
# which of the two is decided by the class that was saved; without one, the first
AutoModelForMultipleChoice.register(OscarHubConfig, (PairModel, ChoiceModel), exist_ok=True)
