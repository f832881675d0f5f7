"""A published file of weights, whoever wrote it, as a detector of ours.

What its tensors do not tell comes from a settings file beside it, or is assumed and said.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from detector.anchors import cell_anchors
from detector.config import RULES, DetectorConfig
from detector.errors import CheckpointError, DetectorConfigError
from detector.loaded import LoadedDetector, fingerprint_of, fitting_labels
from detector.model import AttributeRCNN
from detector.published.checkpoint_names import from_published, published_name
from detector.published.detectron2_names import (
    from_detectron2,
    is_caffe2,
    is_detectron2,
    is_written_here,
    name_in_detectron2,
)
from detector.published.detectron2_settings import (
    is_detectron2_settings,
    stated_in_detectron2,
    usual_of_detectron2,
)
from detector.published.plain_pickle import read_pickled_weights
from detector.published.settings_file import read_settings, settings_beside
from detector.published.sizes import sizes_of
from detector.published.weights_file import finite_numbers, read_published_weights
from detector.published.yaml_keys import check_fixed, stated_in
from detector.weights import model_of
from storage.published.label_maps import LabelMap, label_map_of

_LABEL_MAPS = ("labelmap.json", "VG-SGG-dicts*.json", "*labelmap*.json")
_ADAPTER = TypeAdapter(DetectorConfig)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """A label map, and a line on where it comes from if nobody named it."""

    label_map: LabelMap
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Network:
    """What tensors and settings make, and lines on what they did not tell."""

    model: AttributeRCNN
    assumed: tuple[str, ...]


def read_published(
    path: Path, labels: LabelMap | Path | None, settings: Mapping[str, Any] | Path | None
) -> LoadedDetector:
    """Read a file of scene_graph_benchmark, detectron2 or Caffe2's Detectron.

    Args:
        path: `.pth`, `.safetensors` or `.pkl`.
        labels: Names of classes and attributes; None takes a label map beside the file, or
            numbers.
        settings: Full setting names of the program that made it, or their YAML file; None takes
            the YAML of the same name beside the file, if any.

    Raises:
        CheckpointError: The file is damaged, a tensor is missing, unknown or of another shape, or
            label map or settings are those of another network.
        DetectorConfigError: Unknown settings.
        StorageError: The label map cannot be read.
    """
    file = None
    if not isinstance(settings, Mapping):
        file = settings or settings_beside(path)
        settings = read_settings(file) if file is not None else {}
    tensors = _read(path)
    try:
        network = _network(tensors, settings, str(path))
    except CheckpointError as error:
        if str(error).startswith(str(path)):
            raise
        raise CheckpointError(f"{path}: {error}") from error  # of tensors, whoever held them
    except DetectorConfigError as error:
        raise DetectorConfigError(f"{file or path}: {error}") from error
    named = _named(path, labels, network.model.config)
    assumed = (*network.assumed, *named.assumed)
    if assumed:
        _LOG.info("%s: its tensors do not tell, so assumed: %s", path.name, "; ".join(assumed))
    return LoadedDetector(
        model=network.model,
        label_map=named.label_map,
        fingerprint=fingerprint_of(network.model, named.label_map),
        assumed=assumed,
    )


def _network(tensors: dict[str, Tensor], settings: Mapping[str, Any], source: str) -> _Network:
    """The network of tensors as in the file, by settings of the program that made it.

    The tensors are gone afterwards, so that weights are never twice in memory.
    """
    of_detectron2 = is_detectron2(tensors)
    called = partial(name_in_detectron2, names=list(tensors)) if of_detectron2 else str
    stated = (stated_in_detectron2 if is_detectron2_settings(settings) else stated_in)(settings)
    usual = _usual_of_detectron2(tensors) if of_detectron2 else {}
    told = usual | stated.network
    if of_detectron2:
        ratios = told.get("aspect_ratios", DetectorConfig().aspect_ratios)
        published = from_detectron2(tensors, num_ratios=len(ratios))
        tensors.clear()
        tensors = published
    sizes = sizes_of(tensors, told, source, called=called)
    rules = replace(RULES["vinvl_released"], **stated.rules)
    config = _checked(replace(sizes.config, regions=rules))
    if not is_detectron2_settings(settings):
        check_fixed(settings, config)
    anchors = cell_anchors(config.anchor_sizes, config.aspect_ratios, config.anchor_stride)
    weights = from_published(tensors, anchors)
    tensors.clear()
    model = model_of(config, weights, source, called=lambda ours: called(published_name(ours)))
    unsaid = {name: value for name, value in usual.items() if name not in stated.network}
    return _Network(model=model, assumed=(*_as_in_the_zoo(unsaid), *sizes.assumed))


def _read(path: Path) -> dict[str, Tensor]:
    """Tensors by the names in the file."""
    if path.suffix == ".pkl":
        return finite_numbers(read_pickled_weights(path), path)
    return read_published_weights(path)


def _checked(config: DetectorConfig) -> DetectorConfig:
    """The settings, every one of its own kind."""
    try:
        return _ADAPTER.validate_python(asdict(config))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise DetectorConfigError(f"settings: {name}: {first['msg']}") from error


def _usual_of_detectron2(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Settings that detectron2 has where nobody changes them; none for what we wrote for it."""
    if is_written_here(tensors):
        return {}
    caffe2 = is_caffe2(tensors)
    grouped = tensors.get("res2_0_branch2b_w" if caffe2 else "backbone.res2.0.conv2.weight")
    groups = 1 if grouped is None else grouped.shape[0] // max(1, grouped.shape[1])
    return usual_of_detectron2(groups=groups, caffe2=caffe2)


def _as_in_the_zoo(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """A line for each setting that was taken over from `_usual_of_detectron2`."""
    return tuple(
        f"{name} = {value} (as in detectron2's model zoo)" for name, value in settings.items()
    )


def _named(path: Path, labels: LabelMap | Path | None, config: DetectorConfig) -> _Named:
    """The names that were given, those beside the file, or numbers."""
    if labels is not None:
        source = str(labels) if isinstance(labels, Path) else str(path)
        return _Named(label_map=fitting_labels(config, labels, source))
    found = (file for pattern in _LABEL_MAPS for file in sorted(path.parent.glob(pattern)))
    beside = next(found, None)
    if beside is not None:
        line = f"names of classes and attributes ({beside.name} lies beside the weights)"
        return _Named(label_map=fitting_labels(config, beside, str(beside)), assumed=(line,))
    numbered = label_map_of(map(str, range(1, config.num_classes)))
    line = "names of classes and attributes (numbers stand in; give a label map)"
    return _Named(label_map=fitting_labels(config, numbered, str(path)), assumed=(line,))
