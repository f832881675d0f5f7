"""A detector on disk: a folder with weights, configuration and label map.

detector.safetensors (our tensor names), detector.json (configuration), labelmap.json (the
published layout, `storage.published.label_maps`).
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from detector.config import DetectorConfig, RegionRules
from detector.engines.ranges import ranges_path, read_ranges
from detector.errors import CheckpointError
from detector.loaded import LoadedDetector, check_labels, fingerprint_of, fitting_labels
from detector.model import AttributeRCNN
from detector.published.opening import read_published
from detector.published.saving import WEIGHTS
from detector.weights import model_of
from storage.artifacts import atomic_path, atomic_write_json
from storage.published.label_maps import LabelMap, read_label_map, write_label_map

WEIGHTS_NAME = "detector.safetensors"
CONFIG_NAME = "detector.json"
LABELS_NAME = "labelmap.json"
NAMES = (CONFIG_NAME, LABELS_NAME, WEIGHTS_NAME)
VERSION = 1
"""Of the layout of detector.json."""
_ADAPTER = TypeAdapter(DetectorConfig)


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


def read_detector(
    place: Path,
    label_map: LabelMap | Path | None = None,
    settings: Mapping[str, Any] | Path | None = None,
) -> LoadedDetector:
    """Read a detector in evaluation mode, on the CPU: a folder of ours, or a published file.

    Args:
        place: The folder, weights in the layout of scene_graph_benchmark or detectron2, or a
            folder that `detector.published.saving` wrote.
        label_map: Names for a published file; None takes a label map that lies beside it, or
            numbers. A folder has its own, which are replaced only if they are numbers.
        settings: Full setting names of the original (`MODEL.RPN.NMS_THRESH`), or their YAML file,
            for what the tensors of a published file do not tell; None takes the YAML of the same
            name beside it, if any.

    Raises:
        CheckpointError: A file is missing or damaged, or they do not belong together.
        DetectorConfigError: Unknown settings.
        StorageError: The label map cannot be read.
    """
    if place.name == WEIGHTS_NAME and (place.parent / CONFIG_NAME).is_file():
        place = place.parent
    if (place / WEIGHTS).is_file() and not (place / CONFIG_NAME).is_file():
        place = place / WEIGHTS  # a folder that was written for another program
    if place.is_file():
        return with_ranges(read_published(place, label_map, settings), place)
    if not place.is_dir():
        raise CheckpointError(f"{place}: no file and no folder there; name weights or a detector")
    if (place / CONFIG_NAME).is_file() and settings is not None:
        raise CheckpointError(f"{place}: a detector folder has its own settings; leave them out")
    return with_ranges(_read_folder(place, label_map), place)


def with_ranges(loaded: LoadedDetector, place: Path) -> LoadedDetector:
    """A detector with the ranges that lie beside its weights, if any.

    Raises:
        CheckpointError: They are damaged.
    """
    path = ranges_path(place)
    return dataclasses.replace(loaded, ranges=read_ranges(path)) if path.is_file() else loaded


def _read_folder(folder: Path, names: LabelMap | Path | None) -> LoadedDetector:
    """A detector folder; names only where its own are numbers."""
    for name in (CONFIG_NAME, WEIGHTS_NAME, LABELS_NAME):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder / name}: missing; a detector folder holds {CONFIG_NAME}, "
                f"{WEIGHTS_NAME} and {LABELS_NAME}"
            )
    config = _read_config(folder / CONFIG_NAME)
    label_map = read_label_map(folder / LABELS_NAME)
    if names is not None and not label_map.is_numbered:
        raise CheckpointError(f"{folder}: a detector folder has its own label map; leave it out")
    chosen = folder / LABELS_NAME if names is None else names
    label_map = fitting_labels(config, chosen, str(chosen if isinstance(chosen, Path) else folder))
    source = str(folder / WEIGHTS_NAME)
    model = model_of(config, _read_tensors(folder / WEIGHTS_NAME), source)
    return LoadedDetector(
        model=model, label_map=label_map, fingerprint=fingerprint_of(model, label_map)
    )


def read_network(folder: Path) -> DetectorConfig:
    """The configuration alone, without opening the weights.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    return _read_config(folder / CONFIG_NAME)


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
        with path.open("rb"):  # safetensors calls a file missing that it may not read
            return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: damaged: {error}; copy or train it again") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
