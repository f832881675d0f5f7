"""A detector of ours as a file of another program, with its settings and its names beside it.

A folder of three files: `detector.pth` ({"model": name -> tensor}), `detector.yaml` (settings of
that program), `labelmap.json`. Our loader reads the first and finds the others.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from detector.model import AttributeRCNN
from detector.published.checkpoint_names import to_published
from detector.published.detectron2_names import to_detectron2
from detector.published.detectron2_settings import settings_for_detectron2
from detector.published.yaml_keys import settings_of
from storage.artifacts import atomic_path, atomic_write_text
from storage.published.label_maps import LabelMap, write_label_map

WEIGHTS = "detector.pth"
SETTINGS = "detector.yaml"
LABELS = "labelmap.json"


def save_published(folder: Path, model: AttributeRCNN, label_map: LabelMap) -> None:
    """Write a detector for scene_graph_benchmark.

    Raises:
        DetectorConfigError: It cannot be built there.
        OSError: Disk full, no permission.
    """
    settings = settings_of(model.config)
    _save(folder, to_published(model.state_dict(), model.cell_anchors), settings, label_map)


def save_detectron2(folder: Path, model: AttributeRCNN, label_map: LabelMap) -> None:
    """Write a detector for detectron2 with our parts (`detectron2_model`).

    Its `DetectionCheckpointer` reads the weights; the settings want
    `detectron2_model.add_settings` before they are merged.

    Raises:
        DetectorConfigError: It cannot be built there.
        OSError: Disk full, no permission.
    """
    settings = settings_for_detectron2(model.config)
    published = to_published(model.state_dict(), model.cell_anchors, with_aliases=False)
    weights = to_detectron2(published, num_ratios=len(model.config.aspect_ratios))
    _save(folder, weights, settings, label_map)


def left_out(model: AttributeRCNN, *, for_detectron2: bool) -> tuple[str, ...]:
    """What files of the other program cannot keep, a line each."""
    deltas, rules = model.box_head.box_deltas, model.config.regions
    lost = []
    if for_detectron2 and (deltas.weight[:4].any() or deltas.bias[:4].any()):
        lost.append(
            "left out, so that the fingerprint becomes another: the box deltas of the background, "
            "which detectron2 does not have (only filter 2 with refined boxes looks at them)"
        )
    if not for_detectron2 and rules.regress_boxes and not rules.pool_attributes_again:
        lost.append(
            "left out: pool_attributes_again = False; the original always reads attributes from "
            "the refined boxes"
        )
    return tuple(lost)


def _save(
    folder: Path, weights: Mapping[str, Tensor], settings: Mapping[str, Any], label_map: LabelMap
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_label_map(folder / LABELS, label_map)
    atomic_write_text(folder / SETTINGS, yaml.safe_dump(_nested(settings)))
    with atomic_path(folder / WEIGHTS) as partial:
        torch.save({"model": {n: t.contiguous().cpu() for n, t in weights.items()}}, partial)


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """{"MODEL.RPN.NMS_THRESH": 0.7} -> {"MODEL": {"RPN": {"NMS_THRESH": 0.7}}}."""
    content: dict[str, Any] = {}
    for name, value in settings.items():
        *nodes, last = name.split(".")
        node = content
        for part in nodes:
            node = node.setdefault(part, {})
        node[last] = list(value) if isinstance(value, tuple) else value
    return content
