"""config.json of published checkpoints <-> our settings.

Keys that describe the training or the library (torchscript, finetuning_task, ...) say nothing
about the model and are not read. `pad_token_id`, `bos_token_id` and `eos_token_id` are not read
on purpose: configurations derived from Mengzi-BERT carry values of another vocabulary.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

from oscar_core.config import Activation, OscarConfig
from oscar_core.errors import ModelConfigError
from oscar_core.hub_config import OscarHubConfig

Kind = Literal["encoder", "pretraining", "captioning", "answers", "pair", "choice"]
"""What stands on an encoder."""

SIZES = {
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
_LOSS_TYPES = {"cross_entropy": "xe", "bce": "bce", "kl": "kl"}
_UNREAD = ("finetuning_task", "img_feature_type", "output_attentions", "output_hidden_states")
"""Written for the original's sake; they say nothing about the model."""
_CAPTION_LOSS = ("label_smoothing", "drop_worst_ratio", "drop_worst_after")


def read_config_json(path: Path) -> dict[str, Any]:
    """The object in a config.json.

    Raises:
        ModelConfigError: It cannot be read, or is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelConfigError(f"{path}: cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise ModelConfigError(f"{path}: holds a {type(content).__name__}, want an object")
    return content


def encoder_config(published: Mapping[str, object]) -> OscarConfig:
    """Settings of the encoder that a published config.json describes.

    Raises:
        ModelConfigError: A size is missing or cannot be built.

    Source: `oscar/modeling/modeling_bert.py:BertImgModel.__init__`.
    """
    missing = [key for key in SIZES.values() if key not in published]
    if missing:
        raise ModelConfigError(f"config.json lacks {', '.join(missing)}; is it an Oscar model's?")
    sizes: dict[str, Any] = {ours: number(published, key) for ours, key in SIZES.items()}
    return OscarConfig(
        **sizes,
        **rates(published),
        activation=activation(published),
        has_region_norm=bool(published.get("use_img_layernorm")),
    )


def number(published: Mapping[str, object], key: str) -> int:
    """A size that config.json names.

    Raises:
        ModelConfigError: It is not a whole number.
    """
    value = published[key]
    if isinstance(value, bool) or not isinstance(value, int):
        raise ModelConfigError(f"config.json: {key} is {value!r}, want a whole number")
    return value


def rates(published: Mapping[str, object]) -> dict[str, Any]:
    """Dropout, epsilons and the range of new weights, with the original's defaults.

    Raises:
        ModelConfigError: One of them is not a number.
    """
    found: dict[str, Any] = {}
    for ours, (key, default) in _RATES.items():
        value = published.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ModelConfigError(f"config.json: {key} is {value!r}, want a number")
        found[ours] = float(value)
    return found


def activation(published: Mapping[str, object]) -> Activation:
    """The activation by our name.

    Raises:
        ModelConfigError: It is not known.
    """
    name = str(published.get("hidden_act", "gelu"))
    if name not in ("gelu", "relu", "swish"):
        raise ModelConfigError(
            f"config.json: hidden_act {name!r} is not known; use gelu, relu or swish"
        )
    return cast(Activation, name)


def caption_loss_settings(published: Mapping[str, object]) -> dict[str, object]:
    """Smoothing and dropping that caption fine-tuning left in config.json."""
    return {key: published[key] for key in _CAPTION_LOSS if published.get(key) is not None}


def answer_loss_of(published: Mapping[str, object]) -> str:
    """Our name of a classifier's loss; whatever is neither bce nor kl is cross entropy."""
    told = published.get("loss_type")
    return told if told in ("bce", "kl") else "cross_entropy"


def published_config(config: OscarHubConfig, kind: Kind) -> dict[str, Any]:
    """Our settings as the original writes them for one kind of model.

    What the model's own config.json said stands as it was, unless the model is another now.

    Source: specs/oscar.md 3.3; `pt/modeling_utils.py:PretrainedConfig`, `oscar/run_*.py`.
    """
    written = {
        **{key: getattr(config, ours) for ours, key in SIZES.items()},
        **{key: getattr(config, ours) for ours, (key, _) in _RATES.items()},
        "finetuning_task": None,
        "hidden_act": config.activation,
        "img_feature_type": "frcnn" if kind == "captioning" else "faster_r-cnn",
        "num_labels": config.num_labels,
        "output_attentions": False,
        "output_hidden_states": False,
        "torchscript": False,
        "use_img_layernorm": int(config.has_region_norm),
    }
    if kind == "pretraining":
        written["num_contrast_classes"] = config.num_contrast_classes
    if kind == "captioning":
        written |= {key: getattr(config, key) for key in _CAPTION_LOSS}
        written |= {
            "freeze_embedding": config.freezes_embedding,
            "loss_type": "sfmx",
            "tie_weights": config.is_tied,
        }
    if kind in ("answers", "pair", "choice"):
        written |= {
            "classifier": config.head,
            "cls_hidden_scale": config.head_hidden_scale,
            "loss_type": _LOSS_TYPES[config.answer_loss],
        }
    if kind in ("pair", "choice"):
        written["num_choice"] = config.num_choices
    kept = dict(config.published)
    unread = {key: kept[key] for key in _unread(config, kind) if key in kept}
    return dict(sorted({**kept, **written, **unread}.items()))


def _unread(config: OscarHubConfig, kind: Kind) -> list[str]:
    """Keys that say nothing about this model, or what it does anyway."""
    chooses = kind in ("answers", "pair", "choice")
    keys = list(_UNREAD)
    if not chooses:
        keys += ["num_labels"]
    if config.head == "linear":
        keys += ["cls_hidden_scale"]
    if not chooses or answer_loss_of(config.published) == config.answer_loss:
        keys += ["loss_type"]
    return keys
