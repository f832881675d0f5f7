"""config.json of published checkpoints -> our settings.

Keys that describe the training or the library (loss_type, torchscript, finetuning_task, ...) say
nothing about the encoder and are not read. `pad_token_id`, `bos_token_id` and `eos_token_id` are
not read on purpose: configurations derived from Mengzi-BERT carry values of another vocabulary.
"""

from collections.abc import Mapping
from typing import cast

from oscar_core.config import Activation, OscarConfig
from oscar_core.errors import ModelConfigError

_NEEDED = {
    "vocabulary_size": "vocab_size",
    "region_feature_dim": "img_feature_dim",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "num_token_types": "type_vocab_size",
}
_RATES = {
    "hidden_dropout": ("hidden_dropout_prob", 0.1),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
    "layer_norm_eps": ("layer_norm_eps", 1e-12),
    "region_norm_eps": ("img_layer_norm_eps", 1e-12),
    "initializer_range": ("initializer_range", 0.02),
}


def encoder_config(published: Mapping[str, object]) -> OscarConfig:
    """Settings of the encoder that a published config.json describes.

    Raises:
        ModelConfigError: A size is missing or cannot be built.

    Source: `oscar/modeling/modeling_bert.py:BertImgModel.__init__`.
    """
    missing = [key for key in _NEEDED.values() if key not in published]
    if missing:
        raise ModelConfigError(f"config.json lacks {', '.join(missing)}; is it an Oscar model's?")
    sizes = {ours: int(cast(int, published[key])) for ours, key in _NEEDED.items()}
    rates = {
        ours: float(cast(float, published.get(key, default)))
        for ours, (key, default) in _RATES.items()
    }
    activation = str(published.get("hidden_act", "gelu"))
    if activation not in ("gelu", "relu", "swish"):
        raise ModelConfigError(f"hidden_act {activation!r} is not known; use gelu, relu or swish")
    return OscarConfig(
        **sizes,
        **rates,  # type: ignore[arg-type]  # the tables name int and float fields
        activation=cast(Activation, activation),
        has_region_norm=bool(published.get("use_img_layernorm")),
    )
