"""Names of tensors in published Oscar, VinVL and Mengzi-Oscar checkpoints <-> ours.

A published file is a `pytorch_model.bin` whose names come from `pt/modeling_bert.py` (release
1.1.0) and `oscar/modeling/modeling_bert.py`; shapes and meanings are the same as ours.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from oscar_core.errors import WeightsError

_PUBLISHED_BY_OURS = {
    "encoder.embeddings.word_embeddings": "bert.embeddings.word_embeddings",
    "encoder.embeddings.position_embeddings": "bert.embeddings.position_embeddings",
    "encoder.embeddings.token_type_embeddings": "bert.embeddings.token_type_embeddings",
    "encoder.embeddings.LayerNorm": "bert.embeddings.LayerNorm",
    "encoder.pooler.dense": "bert.pooler.dense",
    "encoder.region_projection": "bert.img_embedding",
    "encoder.region_norm": "bert.LayerNorm",
    "word_head": "cls.predictions",  # its bias belongs to no layer
    "word_head.transform": "cls.predictions.transform.dense",
    "word_head.norm": "cls.predictions.transform.LayerNorm",
    "word_head.decoder": "cls.predictions.decoder",
    "contrast_head": "cls.seq_relationship",
}
_PARTS_OF_A_LAYER = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)
_OURS_BY_PUBLISHED = {published: ours for ours, published in _PUBLISHED_BY_OURS.items()}
_ORDER = (
    "bert.embeddings.word",
    "bert.embeddings.position",
    "bert.embeddings.token_type",
    "bert.embeddings.",
    "bert.encoder.",
    "bert.pooler.",
    "bert.img_embedding.",
    "bert.LayerNorm.",
    "cls.predictions.bias",
    "cls.predictions.transform.",
    "cls.predictions.decoder.",
    "cls.seq_relationship.",
    "classifier.",
)

IGNORED = {
    "bert.embeddings.position_ids": "0, 1, 2, ...; a buffer of later library versions",
    "bert.embeddings.token_type_ids": "zeros; a buffer of later library versions",
    "cls.predictions.decoder.bias": "compared: the same values as cls.predictions.bias",
}
"""Published names that are read over, and why."""

WORD_EMBEDDING = "encoder.embeddings.word_embeddings.weight"
TIED_DECODER = "word_head.decoder.weight"
TIED_DECODER_PUBLISHED = "cls.predictions.decoder.weight"

_LAYER = re.compile(r"^bert\.encoder\.layer\.(\d+)\.(.+)$")
_OUR_LAYER = re.compile(r"^encoder\.layers\.(\d+)\.(.+)$")
_CLASSIFIER = re.compile(r"^classifier(\.\d+)?\.(weight|bias)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What became of a checkpoint; our names.

    missing: parameters of the model that the file lacks, left as they were
    unused:  tensors of the file that the model has no place for
    resized: heads of another number of classes, left as they were
    """

    missing: tuple[str, ...]
    unused: tuple[str, ...]
    resized: tuple[str, ...]


def our_name(published: str) -> str:
    """Our name for a published one; old TensorFlow names (gamma, beta) are understood.

    Raises:
        WeightsError: The name is not known.
    """
    name = published.replace("gamma", "weight").replace("beta", "bias")
    if _CLASSIFIER.match(name):
        return name
    layer = _LAYER.match(name)
    stem, _, kind = name.rpartition(".")
    if kind in ("weight", "bias"):
        if layer and layer[2].removesuffix(f".{kind}") in _PARTS_OF_A_LAYER:
            return f"encoder.layers.{layer[1]}.{layer[2]}"
        if stem in _OURS_BY_PUBLISHED:
            return f"{_OURS_BY_PUBLISHED[stem]}.{kind}"
    raise WeightsError(
        f"tensor {published!r} is not known; want an Oscar, VinVL or Mengzi-Oscar checkpoint"
    )


def published_name(ours: str) -> str:
    """The published name for one of ours.

    Raises:
        WeightsError: No published model has this tensor.
    """
    if _CLASSIFIER.match(ours):
        return ours
    layer = _OUR_LAYER.match(ours)
    if layer:
        return f"bert.encoder.layer.{layer[1]}.{layer[2]}"
    stem, _, kind = ours.rpartition(".")
    if stem in _PUBLISHED_BY_OURS:
        return f"{_PUBLISHED_BY_OURS[stem]}.{kind}"
    raise WeightsError(f"tensor {ours!r} has no published name; leave it out of the file")


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a published file under our names.

    A file of the encoder alone, without the prefix `bert.`, is understood.

    Raises:
        WeightsError: A name is neither known nor listed in `IGNORED`, or two are one.
    """
    starts_with_encoder = any(name.startswith("bert.") for name in state)
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        full = name if starts_with_encoder or name.startswith(("cls.", "classifier")) else ""
        full = full or f"bert.{name}"
        if full in IGNORED:
            continue
        if our_name(full) in renamed:
            raise WeightsError(f"tensor {name!r} is there twice, under an old and a new name")
        renamed[our_name(full)] = tensor
    return renamed


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under published names, in the order of published files.

    Where the output projection is tied to the word embedding, it is written out as the published
    files do.

    Raises:
        WeightsError: A tensor has no published name.
    """
    renamed = {published_name(name): tensor for name, tensor in state.items()}
    if "cls.predictions.bias" in renamed:
        renamed.setdefault(TIED_DECODER_PUBLISHED, state[WORD_EMBEDDING])
    return {name: renamed[name] for name in sorted(renamed, key=_place)}


def in_published_order(ours: Iterable[str]) -> list[tuple[str, str]]:
    """Our names beside the published ones, in the order of published files.

    Raises:
        WeightsError: A tensor has no published name.
    """
    return sorted(((name, published_name(name)) for name in ours), key=lambda pair: _place(pair[1]))


def load_published(model: nn.Module, state: Mapping[str, Tensor]) -> Loaded:
    """Put a published checkpoint into one of our models.

    Parameters that the file lacks keep their values (the region projection when starting from
    BERT). A contrast head of another number of classes stays as it was; any other mismatch of
    shapes is an error.

    Args:
        model: Changed in place.
        state: As `torch.load(..., weights_only=True)` gives it.

    Raises:
        WeightsError: An unknown name, or a tensor of another shape.

    Source: `oscar/modeling/modeling_utils.py:ImgPreTrainedModel.from_pretrained`.
    """
    found = from_published(state)
    own = model.state_dict()
    if TIED_DECODER not in own:
        found.pop(TIED_DECODER, None)
    elif TIED_DECODER not in found and WORD_EMBEDDING in found:
        found[TIED_DECODER] = found[WORD_EMBEDDING]
    resized = []
    for name in sorted(found.keys() & own.keys()):
        if found[name].shape == own[name].shape:
            continue
        if not name.startswith("contrast_head."):
            raise WeightsError(
                f"tensor {published_name(name)!r} has shape {tuple(found[name].shape)}, the model "
                f"needs {tuple(own[name].shape)}; check the model's sizes or choose another file"
            )
        resized.append(name)
    used = {name: found[name] for name in found.keys() & own.keys() if name not in resized}
    with torch.no_grad():
        model.load_state_dict({**own, **used})
    return Loaded(
        missing=tuple(sorted(own.keys() - found.keys())),
        unused=tuple(sorted(found.keys() - own.keys())),
        resized=tuple(resized),
    )


def _place(name: str) -> tuple[int, tuple[int, ...], str]:
    """Where a published name stands in a published file."""
    rank = next(n for n, start in enumerate(_ORDER) if name.startswith(start))
    layer = _LAYER.match(name)
    is_bias = int(name.endswith(".bias"))
    if layer:
        part = layer[2].rpartition(".")[0]
        return rank, (int(layer[1]), _PARTS_OF_A_LAYER.index(part), is_bias), ""
    if name.startswith("cls.predictions.transform."):
        return rank, (int("LayerNorm" in name), is_bias), ""
    return rank, (), name.rpartition(".")[0] + str(is_bias)
