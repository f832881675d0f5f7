"""Weights of an earlier training become those a training begins with."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from oscar_core.errors import WeightsError
from oscar_core.model_folder import REGION_PARTS, StoredModel, copy_weights, with_answers
from oscar_core.task import Knowledge

_ENCODER, _DECODER = "encoder.", "word_head.decoder"
_FINE_TUNING = "classifier"
_EXPECTED_NEW = {_FINE_TUNING, _DECODER}
"""Made for fine-tuning. A decoder that the start lacks begins as a copy of its word embedding."""
_EXPECTED_LEFT_OUT = {"word_head", "contrast_head", _FINE_TUNING}
"""What other tasks ended in."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenOver:
    """How a model and the one it starts from differ, by parts such as "word_head".

    new:      parts that the start lacks, or has otherwise: freshly drawn
    left_out: parts of the start that the model lacks
    """

    new: tuple[str, ...]
    left_out: tuple[str, ...]


def take_over(model: nn.Module, before: StoredModel, knowledge: Knowledge) -> TakenOver:
    """Weights of an earlier training; only whole heads, and answers it did not know, may be new.

    Everything that is drawn anew or left out is told in the log; as a warning where that is not
    what a fine-tuning does anyway.

    Args:
        model: Freshly drawn; changed in place.
        before: What it starts from.
        knowledge: Of the model.

    Raises:
        WeightsError: A tensor of the encoder or a part of a head is missing, or has another shape.
    """
    weights = before.weights
    if before.knowledge.answers and before.knowledge.answers != knowledge.answers:
        weights = with_answers(weights, model, before.knowledge.answers, knowledge.answers)
        _tell_answers(before.knowledge.answers, knowledge.answers)
    missing = copy_weights(model, weights)
    own = () if before.has_seen_regions else REGION_PARTS
    known = {*_parts(weights)} - {_FINE_TUNING}
    for name in missing:
        is_head = not name.startswith(_ENCODER) and _part(name) not in known
        if not is_head and not name.startswith(own):
            raise WeightsError(f"the model to start from lacks tensor {name!r}")
    new = _parts(missing)
    if _DECODER in new:
        _copy_embedding(model)
    found = TakenOver(new=new, left_out=_parts(weights.keys() - dict(model.named_parameters())))
    _tell(found)
    return found


def _part(name: str) -> str:
    """The part of a model that a tensor belongs to: "word_head" of "word_head.norm.bias"."""
    if name.startswith(_DECODER):
        return _DECODER
    num = 2 if name.startswith(_ENCODER) else 1
    return ".".join(name.split(".")[:num])


def _parts(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({_part(name) for name in names}))


@torch.no_grad()
def _copy_embedding(model: nn.Module) -> None:
    """As `oscar_core.models.CaptionModel` does it, once more with the embedding of the start."""
    weights = dict(model.named_parameters())
    embedding = weights["encoder.embeddings.word_embeddings.weight"]
    weights[f"{_DECODER}.weight"].copy_(embedding)


def _tell_answers(before: tuple[str, ...], after: tuple[str, ...]) -> None:
    known = len(set(after) & set(before))
    _LOG.info(
        "answers: %d go on from the earlier model, %d are new, %d of its are asked no more",
        known,
        len(after) - known,
        len(before) - known,
    )


def _tell(found: TakenOver) -> None:
    if found.new:
        level = logging.INFO if _EXPECTED_NEW.issuperset(found.new) else logging.WARNING
        _LOG.log(level, "the start lacks %s: drawn anew", ", ".join(found.new))
    if found.left_out:
        level = logging.INFO if _EXPECTED_LEFT_OUT.issuperset(found.left_out) else logging.WARNING
        _LOG.log(level, "left out of the start: %s", ", ".join(found.left_out))
