"""Models that choose an answer: VQA, GQA, retrieval, NLVR2.

Letters: B examples, T text positions, S text and region positions, R region positions,
F region input width, H hidden width, C classes, K choices (images) of one example.
"""

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from oscar_core.compat import OUR_LOSSES, LossCompat
from oscar_core.config import OscarConfig
from oscar_core.dropout import Dropout
from oscar_core.heads import AnswerHead, answer_head
from oscar_core.hub_config import OscarHubConfig, hub_config
from oscar_core.losses import answer_loss
from oscar_core.on_encoder import OnEncoder
from oscar_core.outputs import LogitsOutput
from oscar_core.packing import PackedBatch


class Answering(OnEncoder):
    """A classifier on the pooled vector; what it does with choices is its own matter."""

    classifier: nn.Module

    def __init__(self, config: OscarHubConfig) -> None:
        super().__init__(config)
        self.dropout = Dropout(config.hidden_dropout)

    def answer(self, pooled: Tensor) -> Tensor:
        """Logits from pooled vectors, one a row of the batch: (rows, H) -> (B, C)."""
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits

    def forward(
        self,
        batch: PackedBatch | None = None,
        *,
        input_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        region_features: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Tensor | tuple[Any, ...] | LogitsOutput:
        """Logits, (B, C); of `ChoiceModel` (B * K, C).

        Args:
            batch: Then nothing else; the K choices of an example are rows that follow one another.
            input_ids: (B, T) int64, or (B, K, T).
            token_type_ids: Likewise; 0 for the first text, 1 for the second. None: all 0.
            attention_mask: (B, S) or (B, K, S); 1 = visible.
            region_features: (B, R, F) or (B, K, R, F) float32.
            position_ids: As `input_ids`; None: 0..T-1.
            labels: As `oscar_core.losses.answer_loss` reads them, by the config's `answer_loss`.
            output_attentions: Return them.
            output_hidden_states: Return the input of every layer and the last output.
            return_dict: False for a tuple.
        """
        if batch is not None:
            return self.answer(self.encode(batch).pooled)
        has_choices = input_ids is not None and input_ids.dim() == 3
        rows = _flattened if has_choices else _unchanged
        encoded = self.encode_tensors(
            rows(input_ids),
            rows(token_type_ids),
            rows(attention_mask),
            rows(region_features),
            rows(position_ids),
            output_attentions,
            output_hidden_states,
        )
        logits = self.answer(encoded.pooled)
        loss = None if labels is None else answer_loss(logits, labels, self.config.answer_loss)
        return self.output(logits, loss, encoded, return_dict)


class ClassifierModel(Answering):
    """One answer for each example: VQA, GQA, retrieval.

    Source: `oscar/modeling/modeling_bert.py:ImageBertForSequenceClassification`.
    """

    def __init__(
        self, config: OscarConfig | OscarHubConfig, head: AnswerHead | None = None
    ) -> None:
        config = hub_config(config, **_settings(head))
        super().__init__(config)
        self.classifier = answer_head(config)
        self.post_init()


class PairModel(Answering):
    """One answer for several images of one statement, looked at side by side: NLVR2.

    Source: `oscar/modeling/modeling_bert.py:ImageBertForMultipleChoice`.
    """

    def __init__(
        self,
        config: OscarConfig | OscarHubConfig,
        head: AnswerHead | None = None,
        *,
        num_choices: int | None = None,
    ) -> None:
        config = hub_config(config, num_choices=num_choices, **_settings(head))
        super().__init__(config)
        self.classifier = answer_head(
            config, num_pooled=config.num_choices, has_norm=config.has_region_norm
        )
        self.post_init()

    @property
    def num_choices(self) -> int:
        """K, images of one example."""
        return self.config.num_choices

    def answer(self, pooled: Tensor) -> Tensor:
        """The pooled vectors of an example laid side by side: (B * K, H) -> (B, C)."""
        beside = self.dropout(pooled).reshape(-1, self.num_choices * pooled.shape[-1])
        logits: Tensor = self.classifier(beside)
        return logits


class ChoiceModel(Answering):
    """Each choice of an example scored by itself: logits (B * K, C).

    Source: `oscar/modeling/modeling_bert.py:OscarForMultipleChoice`.
    """

    def __init__(
        self,
        config: OscarConfig | OscarHubConfig,
        head: AnswerHead | None = None,
        compat: LossCompat = OUR_LOSSES,
    ) -> None:
        if compat.scores_choices_with_two and head is not None:
            head = replace(head, num_labels=2)
        config = hub_config(config, **_settings(head))
        super().__init__(config)
        self.classifier = answer_head(config)
        self.post_init()


def _settings(head: AnswerHead | None) -> dict[str, object]:
    return {} if head is None else head.settings()


def _flattened(tensor: Tensor | None) -> Tensor | None:
    """(B, K, ...) -> (B * K, ...)."""
    return None if tensor is None else tensor.flatten(0, 1)


def _unchanged(tensor: Tensor | None) -> Tensor | None:
    return tensor
