"""A detector in memory, wherever it came from, and what tells it from others."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detector.config import DetectorConfig
from detector.engines.ranges import Ranges
from detector.errors import CheckpointError
from detector.model import AttributeRCNN
from detector.weights import needed_weights
from storage.published.label_maps import NO_ATTRIBUTE, LabelMap, read_label_map


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedDetector:
    """A network in evaluation mode, on the CPU, and the names it can say.

    fingerprint: see `fingerprint_of`
    assumed:     what its file did not tell and was taken on trust, a line each
    ranges:      for 8-bit arithmetic, where `oscar-flow calibrate` left them beside it
    """

    model: AttributeRCNN
    label_map: LabelMap
    fingerprint: str
    assumed: tuple[str, ...] = ()
    ranges: Ranges | None = None


def fingerprint_of(model: AttributeRCNN, label_map: LabelMap) -> str:
    """SHA-256 over weights, names and settings of the network, hexadecimal.

    The same detector has the same fingerprint in every layout of file. The rules by which regions
    are kept do not belong to it: shards tell them beside it.
    """
    network = dataclasses.asdict(model.config)
    del network["regions"]
    told = [_as_floats(network), label_map.class_names, label_map.attribute_names]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for name, tensor in sorted(needed_weights(model.state_dict()).items()):
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        numbers = tensor.detach().cpu().float().contiguous().numpy()
        digest.update(numbers.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def fitting_labels(config: DetectorConfig, labels: LabelMap | Path, source: str) -> LabelMap:
    """A label map that has a name for every row of a model.

    Where it knows no attributes at all, as those of detectron2, numbers stand in for them.

    Raises:
        CheckpointError: It is one of another model.
        StorageError: The file cannot be read.
    """
    label_map = read_label_map(labels) if isinstance(labels, Path) else labels
    if label_map.attribute_names == (NO_ATTRIBUTE,):
        numbers = map(str, range(1, config.num_attributes))
        label_map = dataclasses.replace(label_map, attribute_names=(NO_ATTRIBUTE, *numbers))
    check_labels(config, label_map, source)
    return label_map


def check_labels(config: DetectorConfig, label_map: LabelMap, source: str) -> None:
    """The model must have one row per name.

    Raises:
        CheckpointError: It has not.
    """
    for field, names in (
        ("num_classes", label_map.class_names),
        ("num_attributes", label_map.attribute_names),
    ):
        number = getattr(config, field)
        if number != len(names):
            raise CheckpointError(
                f"{source}: the label map has {len(names)} names (with index 0), the model's "
                f"`{field}` is {number}; use the label map the detector was trained with"
            )


def check_named(detector: LoadedDetector, source: str) -> None:
    """Names of classes are needed, as words are made of them.

    Raises:
        CheckpointError: Numbers stand in for them.
    """
    if detector.label_map.is_numbered:
        raise CheckpointError(
            f"{source}: its classes have no names but numbers, of which no tags can be made; name "
            "them: oscar-flow convert WEIGHTS FOLDER --labelmap FILE"
        )


def _as_floats(value: Any) -> Any:
    """Whole numbers as floats: a size of 32 is one of 32.0."""
    if isinstance(value, dict):
        return {key: _as_floats(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_as_floats(each) for each in value]
    return float(value) if isinstance(value, int) else value
