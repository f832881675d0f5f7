"""What the tensors of a published checkpoint say about its model; today's published names.

Letters: V vocabulary size, H hidden width, F region input width, C classes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from oscar_core.errors import WeightsError

WORDS = "bert.embeddings.word_embeddings.weight"
POSITIONS = "bert.embeddings.position_embeddings.weight"
TOKEN_TYPES = "bert.embeddings.token_type_embeddings.weight"
WIDENING = "bert.encoder.layer.0.intermediate.dense.weight"
REGIONS = "bert.img_embedding.weight"
DECODER = "cls.predictions.decoder.weight"
CONTRAST = "cls.seq_relationship.weight"
_LAYER = re.compile(r"^bert\.encoder\.layer\.(\d+)\.")
_CLASSIFIER = re.compile(r"^classifier((?:\.\d+)?)\.(?:weight|bias)$")
_REGION_PROJECTION, _REGION_NORM = "bert.img_embedding.", "bert.LayerNorm."
_WORD_HEAD, _CONTRAST_HEAD = "cls.predictions.", "cls.seq_relationship."


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerShape:
    """A classifier. num_pooled: H's of its input; hidden_scale: H's of the hidden layer, 0 linear.

    has_norm: a LayerNorm before its last layer
    """

    num_labels: int
    num_pooled: int
    hidden_scale: int
    has_norm: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """Sizes that tensors fix; None or False where the checkpoint has no such part.

    has_own_decoder: the output projection differs from the word embedding
    """

    vocabulary_size: int
    hidden_size: int
    num_layers: int
    intermediate_size: int | None
    max_positions: int
    num_token_types: int
    region_feature_dim: int | None
    has_region_norm: bool
    has_word_head: bool
    has_own_decoder: bool
    num_contrast_classes: int | None
    answers: AnswerShape | None


def shapes_of(state: Mapping[str, Tensor]) -> Shapes:
    """Measure a checkpoint.

    A part is there if any of its tensors is, so that a damaged one is not taken for none.

    Raises:
        WeightsError: It is not a BERT, a part lacks the tensor that tells its size, or a tensor
            has another number of dimensions.
    """
    vocabulary_size, hidden_size = _matrix(state, WORDS)
    layers = {int(found[1]) for name in state if (found := _LAYER.match(name))}
    return Shapes(
        vocabulary_size=vocabulary_size,
        hidden_size=hidden_size,
        num_layers=max(layers, default=-1) + 1,
        intermediate_size=_matrix(state, WIDENING)[0] if layers else None,
        max_positions=_matrix(state, POSITIONS)[0],
        num_token_types=_matrix(state, TOKEN_TYPES)[0],
        region_feature_dim=_matrix(state, REGIONS)[1]
        if _has(state, _REGION_PROJECTION, _REGION_NORM)
        else None,
        has_region_norm=_has(state, _REGION_NORM),
        has_word_head=_has(state, _WORD_HEAD),
        has_own_decoder=DECODER in state and not torch.equal(state[DECODER], state[WORDS]),
        num_contrast_classes=_matrix(state, CONTRAST)[0] if _has(state, _CONTRAST_HEAD) else None,
        answers=_answers(state, hidden_size),
    )


def _answers(state: Mapping[str, Tensor], hidden_size: int) -> AnswerShape | None:
    places = {
        int(found[1].lstrip(".") or 0): f"classifier{found[1]}.weight"
        for name in state
        if (found := _CLASSIFIER.match(name))
    }
    if not places:
        return None
    first, last = places[min(places)], places[max(places)]
    is_linear = len(places) == 1
    return AnswerShape(
        num_labels=_matrix(state, last)[0],
        num_pooled=_matrix(state, first)[1] // hidden_size,
        hidden_scale=0 if is_linear else _matrix(state, first)[0] // hidden_size,
        has_norm=len(places) == 3,
    )


def _has(state: Mapping[str, Tensor], *starts: str) -> bool:
    return any(name.startswith(starts) for name in state)


def _matrix(state: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    if name not in state:
        raise WeightsError(f"tensor {name!r} is missing; is it a BERT, Oscar or VinVL checkpoint?")
    shape = tuple(state[name].shape)
    if len(shape) != 2:
        raise WeightsError(f"tensor {name!r} has shape {shape}, want two dimensions")
    return shape
