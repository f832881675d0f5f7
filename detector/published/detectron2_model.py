"""A detector of ours as a model of detectron2, where detectron2 is installed.

`build_detectron2` makes a `GeneralizedRCNN` of detectron2's own backbone, proposal head, res5 and
predictor with our weights; what detectron2 computes otherwise than the published program (anchors,
inclusive corners, filters, attributes) are the parts that `detectron2_parts` registers. So are
models that are built from a saved settings file: import this module's `register` first.

detectron2 is imported only when it is asked for.
Source: `specs/detector.md` 10.1.
"""

import importlib
import importlib.util
from typing import Any

import torch
from torch import Tensor, nn

from detector.config import DetectorConfig
from detector.errors import DetectorConfigError
from detector.model import AttributeRCNN
from detector.published.checkpoint_names import to_published
from detector.published.detectron2_names import to_detectron2
from detector.published.detectron2_settings import settings_for_detectron2
from detector.weights import load_weights


def register() -> None:
    """Make our parts known to detectron2.

    Raises:
        DetectorConfigError: detectron2 is not installed.
    """
    if importlib.util.find_spec("detectron2") is None:
        raise DetectorConfigError(
            "detectron2 is not installed; install the extra `detectron2` (docs/detector.md has the "
            "lines: it is built from its repository), or put its source tree on PYTHONPATH"
        )
    importlib.import_module("detector.published.detectron2_parts")


def add_settings(settings: Any) -> None:
    """Add the settings of our parts to a `CfgNode` of detectron2, with their defaults."""
    _set(settings, settings_for_detectron2(DetectorConfig()))


def detectron2_config(config: DetectorConfig) -> Any:
    """The `CfgNode` with which detectron2 builds this detector, on the CPU.

    Raises:
        DetectorConfigError: detectron2 is not installed, or cannot build it.
    """
    register()
    from detectron2.config import get_cfg

    settings = get_cfg()
    settings.MODEL.DEVICE = "cpu"
    _set(settings, settings_for_detectron2(config))
    return settings


def build_detectron2(model: AttributeRCNN) -> nn.Module:
    """The same detector as a `GeneralizedRCNN`, in evaluation mode.

    Raises:
        DetectorConfigError: detectron2 is not installed, or cannot build it.
    """
    settings = detectron2_config(model.config)
    from detectron2.modeling import build_model

    built: nn.Module = build_model(settings)
    load_weights(built, weights_for_detectron2(model), "detectron2")
    return built.eval()


def weights_for_detectron2(model: AttributeRCNN) -> dict[str, Tensor]:
    """Our weights under detectron2's names, in its orders."""
    published = to_published(model.state_dict(), model.cell_anchors, with_aliases=False)
    return to_detectron2(published, num_ratios=len(model.config.aspect_ratios))


def input_of(pixels: Tensor, original_size: tuple[int, int], config: DetectorConfig) -> Any:
    """One network input of ours as detectron2 wants it: before mean and deviation.

    Args:
        pixels: (3, h, w) float32 of `ModelImages`, without padding.
        original_size: Height and width of the photo, in which boxes come out.
        config: Of the detector.
    """
    mean = torch.tensor(config.pixel_mean).view(3, 1, 1)
    deviation = torch.tensor(config.pixel_std).view(3, 1, 1)
    height, width = original_size
    return {"image": pixels * deviation + mean, "height": height, "width": width}


def _set(settings: Any, chosen: dict[str, Any]) -> None:
    """Write values under full names into a `CfgNode`; nodes that are not there are made."""
    for name, value in chosen.items():
        *nodes, last = name.split(".")
        node = settings
        for part in nodes:
            if part not in node:
                node[part] = type(settings)()
            node = node[part]
        node[last] = value
