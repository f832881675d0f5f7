"""Which model a published folder holds: its tensors decide, config.json adds what they cannot say.

Where the two contradict each other about a size they are not of one model, which is refused; where
config.json is known to be wrong in published folders (image LayerNorm, tying, numbers of classes),
the tensors are believed and the contradiction is told.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from oscar_core.errors import ModelConfigError, WeightsError
from oscar_core.hub_config import OscarHubConfig
from oscar_core.published.config_json import (
    SIZES,
    Kind,
    activation,
    answer_loss_of,
    caption_loss_settings,
    number,
    rates,
)
from oscar_core.published.shapes import Shapes

_HEAD_WIDTH = 64  # of every published BERT
REGION_FEATURE_DIM = 2054  # 2048 + 6, all published detectors
_SIZED_BY_TENSORS = (
    "vocabulary_size",
    "hidden_size",
    "num_layers",
    "intermediate_size",
    "max_positions",
    "num_token_types",
    "region_feature_dim",
)


@dataclass(slots=True, kw_only=True)
class Notes:
    """What was found out on the way, for people.

    inferred:       said by no file, or by the tensors alone
    contradictions: between config.json and the tensors
    """

    inferred: list[str] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)


def kind_of(shapes: Shapes) -> Kind:
    """What stands on the encoder, by the heads that a checkpoint holds."""
    if shapes.answers is not None:
        return "answers" if shapes.answers.num_pooled == 1 else "pair"
    if shapes.num_contrast_classes is not None and shapes.has_word_head:
        return "pretraining"
    return "captioning" if shapes.has_word_head else "encoder"


def inferred_config(
    shapes: Shapes, published: Mapping[str, Any] | None, notes: Notes, *, path: str
) -> OscarHubConfig:
    """Settings of the model in a checkpoint.

    Args:
        shapes: Of its tensors.
        published: Its config.json; None where there is none.
        notes: Are added to.
        path: Of the tensors, for messages.

    Raises:
        WeightsError: config.json is of another model.
        ModelConfigError: It is damaged, or the sizes cannot be built.
    """
    if published is None:
        notes.inferred.append("no config.json: sizes are those of the tensors")
        published = {}
    sizes = {name: getattr(shapes, name) for name in _SIZED_BY_TENSORS}
    for name in _SIZED_BY_TENSORS:
        key = SIZES[name]
        if key in published and sizes[name] not in (None, number(published, key)):
            raise WeightsError(
                f"{path}: the tensors have {key} {sizes[name]}, config.json says "
                f"{published[key]}; the two files are not of one model"
            )
    if sizes["intermediate_size"] is None:
        sizes["intermediate_size"] = int(published.get("intermediate_size", 4 * shapes.hidden_size))
    return OscarHubConfig(
        **(sizes | {"region_feature_dim": _region_width(shapes, published, notes)}),
        **rates(published),
        num_heads=_num_heads(shapes, published, notes),
        activation=activation(published),
        has_region_norm=_has_region_norm(shapes, published, notes),
        published=dict(published),
        **_heads(shapes, published, notes),
    )


def _region_width(shapes: Shapes, published: Mapping[str, Any], notes: Notes) -> int:
    if shapes.region_feature_dim is not None:
        return shapes.region_feature_dim
    width = number(published, "img_feature_dim") if "img_feature_dim" in published else None
    notes.inferred.append(
        f"no bert.img_embedding: a BERT that has seen no regions; they are read at width "
        f"{width or REGION_FEATURE_DIM}"
    )
    return width or REGION_FEATURE_DIM


def _num_heads(shapes: Shapes, published: Mapping[str, Any], notes: Notes) -> int:
    if "num_attention_heads" in published:
        told = number(published, "num_attention_heads")
        if told < 1 or shapes.hidden_size % told:
            raise ModelConfigError(
                f"config.json: num_attention_heads {told} does not divide hidden_size "
                f"{shapes.hidden_size}"
            )
        return told
    heads = max(1, shapes.hidden_size // _HEAD_WIDTH)
    notes.inferred.append(f"{heads} attention heads, {_HEAD_WIDTH} wide as in every published BERT")
    return heads


def _has_region_norm(shapes: Shapes, published: Mapping[str, Any], notes: Notes) -> bool:
    told = published.get("use_img_layernorm")
    if shapes.region_feature_dim is None:
        has_norm = True if told is None else bool(told)
        notes.inferred.append(
            f"regions {'with' if has_norm else 'without'} LayerNorm, "
            f"{'as VinVL and Mengzi-Oscar start' if told is None else 'by config.json'}"
        )
        return has_norm
    found = "is there" if shapes.has_region_norm else "is not there (as in Oscar v1)"
    message = f"image LayerNorm {found} by the tensors"
    if told is None:
        notes.inferred.append(message)
    elif bool(told) != shapes.has_region_norm:
        notes.contradictions.append(f"{message}, config.json says use_img_layernorm {told}")
    return shapes.has_region_norm


def _heads(shapes: Shapes, published: Mapping[str, Any], notes: Notes) -> dict[str, Any]:
    """Settings of the heads that are there."""
    found: dict[str, Any] = {"freezes_embedding": bool(published.get("freeze_embedding"))}
    found |= caption_loss_settings(published)
    if shapes.has_word_head:
        told = published.get("tie_weights")
        found["is_tied"] = not shapes.has_own_decoder if told is None else bool(told)
        if told and shapes.has_own_decoder:
            found["is_tied"] = False
            notes.contradictions.append(
                "the output projection differs from the word embedding, config.json says "
                f"tie_weights {told}: kept apart"
            )
    if shapes.num_contrast_classes is not None:
        found["num_contrast_classes"] = shapes.num_contrast_classes
        _compare("num_contrast_classes", shapes.num_contrast_classes, published, notes)
    if shapes.answers is not None:
        answers = asdict(shapes.answers)
        found["num_labels"] = answers["num_labels"]
        found["head"] = "mlp" if answers["hidden_scale"] else "linear"
        found["head_hidden_scale"] = answers["hidden_scale"] or 2
        beside = answers["num_pooled"]
        if beside > 1 or "num_choice" in published:  # choices scored one by one leave no trace
            found["num_choices"] = beside if beside > 1 else number(published, "num_choice")
        found["answer_loss"] = answer_loss_of(published)
        _compare("num_labels", answers["num_labels"], published, notes)
        _compare("classifier", found["head"], published, notes)
    return found


def _compare(key: str, found: object, published: Mapping[str, Any], notes: Notes) -> None:
    told = published.get(key)
    if told is None:
        notes.inferred.append(f"{key} {found}")
    elif told != found:
        notes.contradictions.append(f"{key} is {found} in the tensors, config.json says {told}")
