"""The settings of one Oscar model: sizes, dropout, region input."""

from dataclasses import dataclass, fields
from typing import Literal

from oscar_core.errors import ModelConfigError

NUM_BOX_NUMBERS = 6
"""Geometry numbers appended to a region's appearance feature. Oscar issue 10."""

Activation = Literal["gelu", "relu", "swish"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSettings:
    """The sizes one may choose; the defaults are Mengzi-Oscar and VinVL base.

    Attributes:
        activation: "gelu" is the exact erf form, "swish" x * sigmoid(x).
        has_region_norm: LayerNorm after the region projection (VinVL, Mengzi-Oscar: yes;
            Oscar v1: no).
        initializer_range: Standard deviation of new weights.

    Source: `oscar/modeling/modeling_bert.py:BertImgModel`; published config.json files.
    """

    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_size: int = 3072
    activation: Activation = "gelu"
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    max_positions: int = 512
    num_token_types: int = 2
    layer_norm_eps: float = 1e-12
    has_region_norm: bool = True
    region_norm_eps: float = 1e-12
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be built."""
        if self.hidden_size % self.num_heads:
            raise ModelConfigError(
                f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}"
            )
        for name in (
            "hidden_size",
            "num_heads",
            "intermediate_size",
            "max_positions",
            "num_token_types",
        ):
            if getattr(self, name) < 1:
                raise ModelConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.num_layers < 0:
            raise ModelConfigError(f"num_layers must not be negative, not {self.num_layers}")
        for name in ("hidden_dropout", "attention_dropout"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ModelConfigError(f"{name} must lie in 0..1, not {getattr(self, name)}")

    def for_input(self, *, vocabulary_size: int, region_feature_dim: int) -> "OscarConfig":
        """These sizes with what the tokenizer and the detector add."""
        chosen = {each.name: getattr(self, each.name) for each in fields(EncoderSettings)}
        return OscarConfig(
            vocabulary_size=vocabulary_size, region_feature_dim=region_feature_dim, **chosen
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OscarConfig(EncoderSettings):
    """Sizes of one encoder, complete.

    The vocabulary size belongs to the tokenizer and the region width to the detector, so both
    have to be said. `region_feature_dim` counts the six box numbers (2054 = 2048 + 6).
    """

    vocabulary_size: int
    region_feature_dim: int

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be built."""
        EncoderSettings.__post_init__(self)
        for name in ("vocabulary_size", "region_feature_dim"):
            if getattr(self, name) < 1:
                raise ModelConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
