"""A detector on disk: a folder with weights, configuration and label map.

detector.safetensors (our tensor names), detector.json (configuration), labelmap.json (the
published layout, `storage.published.label_maps`).
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from detector.config import DetectorConfig, RegionRules
from detector.errors import CheckpointError
from detector.model import AttributeRCNN
from detector.weights import load_weights
from storage.artifacts import atomic_path, atomic_write_json
from storage.published.label_maps import LabelMap, read_label_map, write_label_map

WEIGHTS_NAME = "detector.safetensors"
CONFIG_NAME = "detector.json"
LABELS_NAME = "labelmap.json"
NAMES = (CONFIG_NAME, LABELS_NAME, WEIGHTS_NAME)
VERSION = 1
"""Of the layout of detector.json."""
_ADAPTER = TypeAdapter(DetectorConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedDetector:
    """What a detector folder holds.

    fingerprint: SHA-256 over its three files, hexadecimal; the same detector, the same value
    """

    model: AttributeRCNN
    label_map: LabelMap
    fingerprint: str


def save_detector(folder: Path, model: AttributeRCNN, label_map: LabelMap) -> None:
    """Write a detector; each file appears whole, the configuration last.

    Raises:
        CheckpointError: The label map does not fit the model.
        OSError: Disk full, no permission.
    """
    check_labels(model.config, label_map, str(folder))
    tensors = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    with atomic_path(folder / WEIGHTS_NAME) as partial:
        save_file(tensors, partial)
    write_label_map(folder / LABELS_NAME, label_map)
    content = {"version": VERSION, "config": dataclasses.asdict(model.config)}
    atomic_write_json(folder / CONFIG_NAME, content)


def read_detector(folder: Path) -> LoadedDetector:
    """Read a detector in evaluation mode, on the CPU.

    Raises:
        CheckpointError: A file is missing or damaged, or they do not belong together.
        StorageError: The label map cannot be read.
    """
    for name in (CONFIG_NAME, WEIGHTS_NAME, LABELS_NAME):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder / name}: missing; a detector folder holds {CONFIG_NAME}, "
                f"{WEIGHTS_NAME} and {LABELS_NAME}"
            )
    config = _read_config(folder / CONFIG_NAME)
    label_map = read_label_map(folder / LABELS_NAME)
    check_labels(config, label_map, str(folder / LABELS_NAME))
    model = AttributeRCNN(config)
    load_weights(model, _read_tensors(folder / WEIGHTS_NAME), str(folder / WEIGHTS_NAME))
    return LoadedDetector(
        model=model.eval(), label_map=label_map, fingerprint=fingerprint_of(folder)
    )


def read_network(folder: Path) -> DetectorConfig:
    """The configuration alone, without opening the weights.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    return _read_config(folder / CONFIG_NAME)


def fingerprint_of(folder: Path) -> str:
    """SHA-256 over the three files of a detector folder, hexadecimal."""
    digest = hashlib.sha256()
    for name in NAMES:
        with open(folder / name, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


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


def _read_config(path: Path) -> DetectorConfig:
    """Configuration from its file; unknown keys are refused."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise CheckpointError(
                f"{path}: written by another release (version {content['version']}, here "
                f"{VERSION}); train or convert the detector again"
            )
        unknown = _unknown_keys(content["config"])
        if unknown:
            raise CheckpointError(
                f"{path}: unknown key {unknown[0]!r}; is the file from elsewhere?"
            )
        return _ADAPTER.validate_python(content["config"])
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(f"{path}: {key}: {first['msg']}") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path}: not a detector's configuration: {error}") from error


def _unknown_keys(content: Mapping[str, Any]) -> list[str]:
    """Keys that no setting has, those of `regions` included."""
    known = {field.name for field in dataclasses.fields(DetectorConfig)}
    known_rules = {field.name for field in dataclasses.fields(RegionRules)}
    return [key for key in content if key not in known] + [
        f"regions.{key}" for key in content["regions"] if key not in known_rules
    ]


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: damaged: {error}; copy or train it again") from error
