"""The settings of one model as transformers stores them, in `config.json`."""

from dataclasses import asdict, field, fields
from typing import Any, ClassVar, Literal

from transformers.configuration_utils import PreTrainedConfig

from oscar_core.config import Activation, OscarConfig
from oscar_core.errors import ModelConfigError

MODEL_TYPE = "oscar"

HEAD_SETTINGS = (
    "num_labels",
    "num_contrast_classes",
    "head",
    "head_hidden_scale",
    "num_choices",
    "answer_loss",
    "is_tied",
    "freezes_embedding",
    "label_smoothing",
    "drop_worst_ratio",
    "drop_worst_after",
    "published",
)
"""What `OscarHubConfig` holds beside the sizes of the encoder."""


class OscarHubConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]  # its __init_subclass__
    """Sizes of the encoder and settings of whichever head stands on it.

    The sizes are those of `oscar_core.config.OscarConfig`, under its names; transformers' common
    names (`vocab_size`, `num_hidden_layers`, ...) read and set the same values. `num_labels` and
    `id2label` are transformers' own.

    Attributes:
        num_contrast_classes: Of pretraining: 3, or 2 in vanilla Oscar.
        head: Of a classifier: "linear", or "mlp" with one hidden layer.
        head_hidden_scale: Width of that hidden layer in units of `hidden_size`.
        num_choices: Images that are looked at side by side (NLVR2).
        answer_loss: Of a classifier; see `oscar_core.losses.answer_loss`.
        is_tied: The output projection of captioning is the word embedding.
        freezes_embedding: Captioning leaves the word embedding as it is.
        label_smoothing, drop_worst_ratio, drop_worst_after: See `oscar_core.losses.CaptionLoss`.
        published: The `config.json` that a published model came with, as it was; it goes back into
            the published layout.
    """

    model_type = MODEL_TYPE
    attribute_map: ClassVar[dict[str, str]] = {
        "vocab_size": "vocabulary_size",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "max_position_embeddings": "max_positions",
        "type_vocab_size": "num_token_types",
        "hidden_act": "activation",
    }
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        "word_loss",
        "contrast_loss",
        "hidden_states",
        "attentions",
    ]

    vocabulary_size: int = 21128
    region_feature_dim: int = 2054
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
    pad_token_id: int | None = 0
    architectures: list[str] | None = field(default_factory=list)

    num_contrast_classes: int = 3
    head: Literal["linear", "mlp"] = "linear"
    head_hidden_scale: int = 2
    num_choices: int = 2
    answer_loss: Literal["cross_entropy", "bce", "kl"] = "cross_entropy"
    is_tied: bool = True
    freezes_embedding: bool = False
    label_smoothing: float = 0.0
    drop_worst_ratio: float = 0.0
    drop_worst_after: int = 0
    published: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self, **other: Any) -> None:
        """Refuse sizes that cannot be built."""
        super().__post_init__(**other)  # type: ignore[no-untyped-call]  # transformers' is untyped
        self.sizes()
        for name in ("num_contrast_classes", "head_hidden_scale", "num_choices"):
            if getattr(self, name) < 1:
                raise ModelConfigError(f"{name} must be at least 1, not {getattr(self, name)}")

    def sizes(self) -> OscarConfig:
        """Those of the encoder.

        Raises:
            ModelConfigError: They cannot be built.
        """
        return OscarConfig(**{each.name: getattr(self, each.name) for each in fields(OscarConfig)})

    def head_settings(self) -> dict[str, Any]:
        """What is not a size of the encoder: `OscarHubConfig(**asdict(sizes), **these)`."""
        return {name: getattr(self, name) for name in HEAD_SETTINGS}

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As transformers does, but a published `config.json` is refused.

        Without this, transformers would call its weights unknown and draw every tensor anew.

        Raises:
            ModelConfigError: It is no config of ours.
        """
        if config_dict.get("model_type") != MODEL_TYPE:
            raise ModelConfigError(
                f"config.json says model_type {config_dict.get('model_type')!r}, not "
                f"{MODEL_TYPE!r}; `oscar-flow convert FOLDER OUT --to hub` makes of a published "
                "folder, or of one of ours, one that from_pretrained reads"
            )
        return super().from_dict(config_dict, **kwargs)


def hub_config(config: OscarConfig | OscarHubConfig, **head: Any) -> OscarHubConfig:
    """Settings for a model's constructor; one of ours already is taken as it is.

    Args:
        config: Sizes of the encoder, or everything.
        head: Settings of the head that are not None; with sizes alone.
    """
    said = {name: value for name, value in head.items() if value is not None}
    if isinstance(config, OscarHubConfig):
        if said:
            raise ModelConfigError(
                f"{', '.join(said)} said twice: a whole configuration has them already"
            )
        return config
    return OscarHubConfig(**asdict(config), **said)
