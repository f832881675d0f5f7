"""ImageNet trunks as Caffe2's Detectron and detectron2 store them (`.pkl`), as ours.

Among them is X-152-32x8d-IN5k, on which VinVL's detector stands. Files of Caffe2 and of MSRA expect
BGR pixels minus their mean and nothing else; detectron2's own ResNeXt and what it made of
torchvision's expect more, which no tensor tells: set `channel_order`, `pixel_mean`, `pixel_std`.
Those of MSRA (R-50, R-101) stride in the 1x1 convolution, the others in the 3x3: `stride_in_1x1`.
Source: detectron2 `checkpoint/c2_model_loading.py`, `tools/convert-torchvision-to-d2.py`.
"""

import re
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from detector.errors import CheckpointError
from detector.published.detectron2_names import FROZEN_EPS

_CLASSIFIERS = ("fc1000_", "pred_", "stem.fc.", "linear.")  # ImageNet's classes
_COUNTER = "num_batches_tracked"  # nothing reads it
_LAST_STAGE = 5
_CAFFE2_LAYERS = {"branch1": "shortcut", "branch2a": "1", "branch2b": "2", "branch2c": "3"}
_CAFFE2_STATISTICS = {"s": "weight", "b": "bias"}


def is_imagenet_pickle(names: Collection[str]) -> bool:
    """Whether these are names of a trunk without a detector."""
    is_trunk = "stem.conv1.weight" in names or "conv1_w" in names
    return is_trunk and not any(name.startswith(("rpn_", "conv_rpn", "cls_")) for name in names)


def from_imagenet_pickle(weights: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Trunk and res5 of a detector; there is nothing for its heads.

    Args:
        weights: As in the file.
        source: What to call the file in an error.

    Raises:
        CheckpointError: An unknown name.
    """
    is_caffe2 = "conv1_w" in weights
    renamed: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if name.startswith(_CLASSIFIERS) or name.endswith(_COUNTER):
            continue
        ours = _from_caffe2(name) if is_caffe2 else _from_detectron2(name)
        if ours is None:
            raise CheckpointError(f"{source}: unknown tensor {name!r}; is it another network?")
        is_variance = ours.endswith(".running_var")
        renamed[ours] = tensor.float() + FROZEN_EPS if is_variance else tensor.float()
    if is_caffe2:  # only factor and summand are stored
        for name in [each for each in renamed if _is_factor(each)]:
            layer = name.removesuffix("weight")
            renamed[layer + "running_mean"] = torch.zeros_like(renamed[name])
            renamed[layer + "running_var"] = torch.ones_like(renamed[name])
    return renamed


def _from_caffe2(name: str) -> str | None:
    """`res2_0_branch2a_bn_s` -> `trunk.stages.0.0.norm1.weight`, and so on."""
    if name == "conv1_w":
        return "trunk.stem.conv1.weight"
    found = re.fullmatch(r"res_conv1_bn_([sb])", name)
    if found:
        return f"trunk.stem.norm1.{_CAFFE2_STATISTICS[found[1]]}"
    found = re.fullmatch(r"res([2-5])_(\d+)_(branch1|branch2[abc])_(w|bn_[sb])", name)
    if found is None:
        return None
    layer = _CAFFE2_LAYERS[found[3]]
    statistic = _CAFFE2_STATISTICS[found[4][-1]] if found[4] != "w" else ""
    return _place(int(found[1]), found[2], layer, statistic)


def _from_detectron2(name: str) -> str | None:
    """`res2.0.conv1.norm.weight` -> `trunk.stages.0.0.norm1.weight`, and so on."""
    found = re.fullmatch(r"stem\.conv1\.(?:norm\.)?(\w+)", name)
    if found:
        layer = "norm1" if ".norm." in name else "conv1"
        return f"trunk.stem.{layer}.{found[1]}"
    found = re.fullmatch(r"res([2-5])\.(\d+)\.(?:conv([123])|shortcut)\.(?:norm\.)?(\w+)", name)
    if found is None:
        return None
    statistic = found[4] if ".norm." in name else ""
    return _place(int(found[1]), found[2], found[3] or "shortcut", statistic)


def _place(stage: int, block: str, layer: str, statistic: str) -> str:
    """Our name of a convolution's weight, or of a statistic of the normalisation behind it."""
    inside = f"res5.blocks.{block}" if stage == _LAST_STAGE else f"trunk.stages.{stage - 2}.{block}"
    if layer == "shortcut":
        return f"{inside}.shortcut.{'1.' + statistic if statistic else '0.weight'}"
    return f"{inside}.{f'norm{layer}.{statistic}' if statistic else f'conv{layer}.weight'}"


def _is_factor(name: str) -> bool:
    return re.search(r"(norm[123]|shortcut\.1)\.weight$", name) is not None
