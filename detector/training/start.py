"""Weights that a training starts from: an ImageNet trunk, or a detector of another label map.

Trunk and res5 must fit. Of the heads is taken what fits: rows of classes and attributes by their
names where both label maps are known, by their number where only the number is. The rest is drawn
anew, and told.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from detector.checkpoints import read_detector
from detector.config import DetectorConfig
from detector.errors import CheckpointError
from detector.model import AttributeRCNN
from detector.published.imagenet_lite0 import load_imagenet_trunk
from detector.published.imagenet_pickles import from_imagenet_pickle, is_imagenet_pickle
from detector.published.plain_pickle import read_pickled_weights
from detector.published.torchvision_names import from_torchvision, is_torchvision
from detector.published.weights_file import read_published_weights
from storage.artifacts import sha256_of
from storage.published.label_maps import LabelMap

_LOG = logging.getLogger(__name__)
_TRUNK = ("trunk.", "res5.")
_COUNTER = "num_batches_tracked"  # of live normalisation; absent where it was frozen
_PER_CLASS = (
    "box_head.class_logits.",
    "box_head.box_deltas.",
    "attribute_head.class_embedding.",
)
_PER_ATTRIBUTE = ("attribute_head.logits.",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What a training starts from.

    digest:     of the weights; "" for random ones
    drawn_anew: parts of the network that the start lacks, "" for none
    left_out:   parts of the start that the network lacks, "" for none
    """

    digest: str = ""
    drawn_anew: str = ""
    left_out: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """Weights with our names; the label map is None where there are no names."""

    weights: Mapping[str, Tensor]
    digest: str
    label_map: LabelMap | None = None


def imagenet_start(model: AttributeRCNN) -> Started:
    """Start trunk and res5 of a `lite0` from the weights of the extra `pretrained`.

    Raises:
        CheckpointError: They are not installed, or the model has another trunk.
    """
    load_imagenet_trunk(model)
    return Started(digest="imagenet", drawn_anew="heads")


def start_from(path: Path, model: AttributeRCNN, label_map: LabelMap) -> Started:
    """Fill a model from a file or folder.

    Args:
        path: Our detector folder; a file of torchvision's ResNet; an ImageNet trunk of Caffe2 or
            detectron2 (`.pkl`); a published detector.
        model: With random weights.
        label_map: Of the model.

    Raises:
        CheckpointError: It cannot be read, or trunk and res5 do not fit.
    """
    found = _read(path, model.config)
    drawn, kept = [], {}
    for name, tensor in model.state_dict().items():
        if name.endswith(_COUNTER):
            continue
        taken = _taken(name, tensor, found, label_map)
        if taken is not None:
            kept[name] = taken
        elif name.startswith(_TRUNK):
            raise CheckpointError(_not_fitting(path, name, tensor, found.weights.get(name)))
        else:
            drawn.append(name)
    surplus = sorted(
        name for name in found.weights.keys() - kept.keys() - set(drawn) if _says_something(name)
    )
    if any(name.startswith(_TRUNK) for name in surplus):
        raise CheckpointError(
            f"{path.name}: {len(surplus)} tensors have no place in the configured network, first "
            f"{surplus[0]!r}; check `preset` and `overrides`"
        )
    model.load_state_dict(kept, strict=False)
    anew = [_parts(drawn), *_new_names(found.label_map, label_map)]
    started = Started(
        digest=found.digest,
        drawn_anew=", ".join(each for each in anew if each),
        left_out=_parts(surplus),
    )
    if started.drawn_anew:
        _LOG.info("%s: drawn anew, as it has none that fit: %s", path.name, started.drawn_anew)
    return started


def _read(path: Path, config: DetectorConfig) -> _Found:
    """Tensors with our names, of whatever wrote them."""
    if path.is_file() and path.suffix == ".pkl":
        weights = read_pickled_weights(path)
        if is_imagenet_pickle(weights.keys()):
            return _Found(weights=from_imagenet_pickle(weights, path.name), digest=sha256_of(path))
    elif path.is_file():
        weights = read_published_weights(path)
        if is_torchvision(weights.keys()):
            return _Found(
                weights=from_torchvision(weights, config, path.name), digest=sha256_of(path)
            )
    loaded = read_detector(path)
    # numbers stand in where a published file has no label map
    are_named = not all(name.isdigit() for name in loaded.label_map.class_names[1:])
    return _Found(
        weights=loaded.model.state_dict(),
        digest=loaded.fingerprint,
        label_map=loaded.label_map if are_named else None,
    )


def _taken(name: str, own: Tensor, found: _Found, label_map: LabelMap) -> Tensor | None:
    """The start's tensor for a place, None where it has none that fits."""
    given = found.weights.get(name)
    if given is None:
        return None
    known = found.label_map
    if known is not None and name.startswith(_PER_CLASS):
        return _by_name(own, given, label_map.class_names, known.class_names)
    if known is not None and name.startswith(_PER_ATTRIBUTE):
        return _by_name(own, given, label_map.attribute_names, known.attribute_names)
    return given if given.shape == own.shape else None


def _by_name(
    own: Tensor, given: Tensor, own_names: Sequence[str], given_names: Sequence[str]
) -> Tensor | None:
    """Rows of the same name; rows of new names stay as they are.

    Args:
        own: (n * k, ...) with k rows for each of n names.
        given: (m * k, ...) likewise.
        own_names: n.
        given_names: m.
    """
    if own_names == given_names:
        return given if given.shape == own.shape else None
    number_by_name = {name: number for number, name in enumerate(given_names)}
    shared = [
        (place, number_by_name[name])
        for place, name in enumerate(own_names)
        if name in number_by_name
    ]
    rows = len(own) // len(own_names)
    is_alike = own.shape[1:] == given.shape[1:] and len(given) == rows * len(given_names)
    if rows * len(own_names) != len(own) or not is_alike:
        return None  # one box for all classes here or there
    filled = own.clone().view(len(own_names), rows, *own.shape[1:])
    places, numbers = (torch.tensor(each) for each in zip(*shared, strict=True))
    filled[places] = given.view(len(given_names), rows, *given.shape[1:])[numbers].to(own.dtype)
    return filled.view(own.shape)


def _new_names(known: LabelMap | None, wanted: LabelMap) -> list[str]:
    """How many names have new rows in heads that were otherwise taken."""
    if known is None:
        return []
    return [
        f"rows of {num} of {len(names) - 1} {kind}"
        for kind, names, old in (
            ("classes", wanted.class_names, known.class_names),
            ("attributes", wanted.attribute_names, known.attribute_names),
        )
        if (num := len(set(names) - set(old)))
    ]


def _not_fitting(path: Path, name: str, own: Tensor, given: Tensor | None) -> str:
    if given is None:
        return f"{path.name}: tensor {name!r} is missing; check `preset`, or choose another start"
    return (
        f"{path.name}: tensor {name!r} has shape {tuple(given.shape)}, the configured network "
        f"needs {tuple(own.shape)}; check `preset` and `overrides`, or choose another start"
    )


def _parts(names: Sequence[str]) -> str:
    """Tensor names as the modules they belong to."""
    return ", ".join(dict.fromkeys(name.rpartition(".")[0] for name in names))


def _says_something(name: str) -> bool:
    return not name.endswith(_COUNTER)
