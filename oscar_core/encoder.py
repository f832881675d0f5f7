"""The text and region Transformer behind every task.

Letters: B examples, T text positions, R region positions, S = T + R, P remembered positions,
H hidden width, F region input width, L layers, A attention heads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import initialization
from transformers.modeling_utils import PreTrainedModel

from oscar_core.attention import EAGER, Sight
from oscar_core.config import OscarConfig
from oscar_core.dropout import Dropout
from oscar_core.errors import WeightsError
from oscar_core.hub_config import OscarHubConfig, hub_config
from oscar_core.layers import Attend, EncoderLayer, KeysAndValues, Pooler, TextEmbeddings


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """What the encoder returns.

    sequence:      (B, S, H) float32
    pooled:        (B, H) float32        tanh of a linear map of position 0
    hidden_states: L + 1 of (B, S, H)    the embedding first; () unless asked for
    attentions:    L of (B, A, S, P + S) after dropout and head mask; () unless asked for
    """

    sequence: Tensor
    pooled: Tensor
    hidden_states: tuple[Tensor, ...] = ()
    attentions: tuple[Tensor, ...] = ()


class OscarPreTrained(PreTrainedModel):  # type: ignore[no-untyped-call]  # its __init_subclass__
    """What all our models share in transformers' eyes: config class, initialisation, abilities."""

    config_class = OscarHubConfig
    config: OscarHubConfig
    base_model_prefix = "encoder"
    input_modalities = ["text", "image"]  # noqa: RUF012  # transformers' own form
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _no_split_modules = ["EncoderLayer"]  # noqa: RUF012  # transformers' own form

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)  # type: ignore[no-untyped-call]  # transformers' is untyped

    def post_init(self) -> None:
        """Draw the weights; every constructor ends with it."""
        super().post_init()  # type: ignore[no-untyped-call]  # likewise

    @classmethod
    def from_pretrained(cls, *args: Any, starts_anew: bool = False, **kwargs: Any) -> Any:
        """As transformers does, but a tensor that is not in the file is drawn only if asked for.

        Args:
            args: Folder, and what else transformers takes.
            starts_anew: Draw the parts that the file lacks; transformers reports which.
            kwargs: Likewise.

        Raises:
            WeightsError: The file lacks a tensor, a head as a rule.
        """
        wants_info = kwargs.pop("output_loading_info", False)
        loaded: Any = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        model, info = loaded
        missing = sorted(info["missing_keys"])
        if missing and not starts_anew:
            raise WeightsError(
                f"{args[0] if args else cls.__name__}: tensor {missing[0]!r} and "
                f"{len(missing) - 1} others that {cls.__name__} needs are not there; choose the "
                "class that was saved, or from_pretrained(..., starts_anew=True) to draw them"
            )
        return (model, info) if wants_info else model

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Linear and embedding weights from N(0, range), the padding row too; LayerNorm 1, 0.

        Biases are 0. transformers' functions leave loaded tensors alone.

        Source: `pt/modeling_bert.py:init_weights`.
        """
        if isinstance(module, nn.Linear | nn.Embedding):
            initialization.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.LayerNorm):
            initialization.ones_(module.weight)
        bias = getattr(module, "bias", None)
        if isinstance(bias, nn.Parameter):
            initialization.zeros_(bias)


class OscarEncoder(OscarPreTrained):
    """BERT over words, then regions.

    `published/bert_names.py` maps its parameters to the names of published checkpoints. Regions
    get neither a position nor a token type.

    Source: `oscar/modeling/modeling_bert.py:BertImgModel`.
    """

    def __init__(self, config: OscarConfig | OscarHubConfig) -> None:
        config = hub_config(config)
        super().__init__(config)
        self.embeddings = TextEmbeddings(config)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_layers))
        self.pooler = Pooler(config)
        self.region_projection = nn.Linear(config.region_feature_dim, config.hidden_size)
        self.region_norm = (
            nn.LayerNorm(config.hidden_size, eps=config.region_norm_eps)
            if config.has_region_norm
            else None
        )
        self.dropout = Dropout(config.hidden_dropout)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The word embedding."""
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Put another word embedding in its place."""
        self.embeddings.word_embeddings = cast(nn.Embedding, value)

    def embed_text(
        self, input_ids: Tensor, token_type_ids: Tensor | None, position_ids: Tensor | None
    ) -> Tensor:
        """Word, position and token type, summed and normalised: (B, T) int64 -> (B, T, H)."""
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        embedded: Tensor = self.embeddings(input_ids, token_type_ids, position_ids)
        return embedded

    def embed_regions(self, region_features: Tensor) -> Tensor:
        """Project regions to the hidden width: (B, R, F) float32 -> (B, R, H)."""
        projected = self.region_projection(region_features)
        if self.region_norm is not None:
            projected = self.region_norm(projected)
        embedded: Tensor = self.dropout(projected)
        return embedded

    def each_layer(self) -> list[EncoderLayer]:
        """The layers from the embedding upwards."""
        return [cast(EncoderLayer, layer) for layer in self.layers]

    def queries(self, layer: EncoderLayer, states: Tensor) -> Tensor:
        """What a layer asks for: (B, positions, H) -> (B, A, positions, H / A)."""
        return layer.queries(states)

    def keys_and_values(self, layer: EncoderLayer, states: Tensor) -> KeysAndValues:
        """What a layer's queries will look at: (B, P, H) -> keys and values by head."""
        return layer.keys_and_values(states)

    def finish_layer(self, layer: EncoderLayer, states: Tensor, context: Tensor) -> Tensor:
        """Everything of a layer that follows its attention.

        Args:
            layer: One of `layers`.
            states: (B, positions, H) the layer's input.
            context: (B, positions, H) attended values, heads merged.
        """
        return layer.finish(states, context)

    def pool(self, sequence: Tensor) -> Tensor:
        """(B, S, H) -> (B, H): tanh of a linear map of position 0."""
        pooled: Tensor = self.pooler(sequence)
        return pooled

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        region_features: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        history: Sequence[Tensor] | None = None,
        *,
        keep_hidden_states: bool = False,
        keep_attentions: bool = False,
    ) -> Encoded:
        """Encode text and regions together.

        Args:
            input_ids: (B, T) int64.
            token_type_ids: (B, T) int64; None for all 0.
            attention_mask: (B, S), or (B, S, P + S) by query and key; 1 = visible. None: all is.
            region_features: (B, R, F) float32; None for text alone.
            position_ids: (B, T) int64; None for 0..T-1.
            head_mask: (A,) or (L, A) factors on the attention probabilities.
            history: L of (B, P, H), the input of each layer at earlier positions, put before the
                keys and values; then the mask has to be 3-D.
            keep_hidden_states: Return the input of every layer and the last output.
            keep_attentions: Return the attention probabilities, which "eager" alone computes.
        """
        states = self.embed_text(input_ids, token_type_ids, position_ids)
        if region_features is not None:
            states = torch.cat([states, self.embed_regions(region_features)], dim=1)
        if attention_mask is None:
            num_seen = states.shape[1] + (history[0].shape[1] if history else 0)
            attention_mask = states.new_ones(len(states), num_seen)
        sight = Sight.of(
            attention_mask,
            EAGER if keep_attentions or head_mask is not None else self._implementation,
            num_queries=states.shape[1],
            dtype=states.dtype,
            dropout=self.config.attention_dropout if self.training else 0.0,
        )
        factors = _per_layer(head_mask, len(self.layers))
        hidden_states, attentions = [states], []
        for index, layer in enumerate(self.layers):
            before = None if history is None else history[index]
            states, probabilities = layer(states, _attend(sight, before, factors[index]))
            if keep_hidden_states:
                hidden_states.append(states)
            if keep_attentions:
                attentions.append(probabilities)
        return Encoded(
            sequence=states,
            pooled=self.pool(states),
            hidden_states=tuple(hidden_states) if keep_hidden_states else (),
            attentions=tuple(attentions),
        )

    @property
    def _implementation(self) -> str:
        """How attention is computed, by transformers' name."""
        return self.config._attn_implementation or EAGER


def _attend(sight: Sight, before: Tensor | None, factors: Tensor | None) -> Attend:
    """How the positions of one layer look at one another.

    Args:
        sight: What may be seen.
        before: (B, P, H) earlier positions, which are seen but ask nothing.
        factors: (1, A, 1, 1) on the probabilities.
    """

    def attend(layer: EncoderLayer, states: Tensor) -> tuple[Tensor, Tensor | None]:
        seen = layer.keys_and_values(
            states if before is None else torch.cat([before, states], dim=1)
        )
        return sight.attend(layer.attention.self, layer.queries(states), seen, factors)

    return attend


def _per_layer(head_mask: Tensor | None, num_layers: int) -> list[Tensor | None]:
    """Head factors of each layer, shaped (1, A, 1, 1); a 1-D mask serves every layer."""
    if head_mask is None:
        return [None] * num_layers
    rows = head_mask.expand(num_layers, -1) if head_mask.dim() == 1 else head_mask
    return [row[None, :, None, None] for row in rows]
