"""ImageNet weights in torchvision's layout (`resnet50`, `resnext101_32x8d`, ...) as ours.

Only a file of tensors is needed, not torchvision. Its networks stride in the 3x3 convolution, add
1e-5 to every variance, and look at RGB pixels as (pixel / 255 - mean) / deviation of ImageNet; ours
add nothing and look at pixels as configured. Both differences go into the weights, so that the
numbers stay.
Source: torchvision `models/resnet.py`.
"""

import re
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from detector.config import DetectorConfig
from detector.constants import IMAGENET_MEAN_RGB, IMAGENET_STD_RGB
from detector.errors import CheckpointError

_EPS = 1e-5  # torch's BatchNorm2d
_CLASSIFIER = "fc."  # 1000 ImageNet classes; a detector has heads of its own
_COUNTER = "num_batches_tracked"  # of the training that made the file; nothing reads it
_LAST_STAGE = 4
_CLOSE = 0.01  # [pixel values]


def is_torchvision(names: Collection[str]) -> bool:
    """Whether these are names of torchvision's ResNet or ResNeXt."""
    return "conv1.weight" in names and "layer1.0.conv1.weight" in names


def from_torchvision(
    weights: Mapping[str, Tensor], config: DetectorConfig, source: str
) -> dict[str, Tensor]:
    """Trunk and res5 of a detector; there is nothing for its heads.

    Args:
        weights: As in the file.
        config: Of the detector.
        source: What to call the file in an error.

    Raises:
        CheckpointError: The detector has another kind of trunk, strides elsewhere or has another
            mean of pixels; an unknown name.
    """
    if config.trunk != "resnet_c4" or config.stride_in_1x1:
        raise CheckpointError(
            f"{source}: torchvision's ResNet strides in the 3x3 convolution; set "
            "`trunk: resnet_c4` and `stride_in_1x1: false`"
        )
    renamed = {}
    for name, tensor in weights.items():
        if not name.startswith(_CLASSIFIER) and not name.endswith(_COUNTER):
            renamed[_our_name(name, source)] = tensor
    if config.norm == "frozen":
        for name in renamed:
            if name.endswith(".running_var"):
                renamed[name] = renamed[name] + _EPS
    stem = "trunk.stem.conv1.weight"
    renamed[stem] = _for_pixels_of(config, renamed[stem], source)
    return renamed


def _our_name(name: str, source: str) -> str:
    """`layer4.0.bn1.weight` -> `res5.blocks.0.norm1.weight`, and so on."""
    found = re.fullmatch(r"layer([1-4])\.(\d+)\.(.+)", name)
    if found is None:
        if name == "conv1.weight" or name.startswith("bn1."):
            return "trunk.stem." + name.replace("bn1", "norm1")
        raise CheckpointError(f"{source}: unknown tensor {name!r}; is it another network?")
    stage, block, layer = int(found[1]), found[2], found[3]
    place = f"res5.blocks.{block}" if stage == _LAST_STAGE else f"trunk.stages.{stage - 1}.{block}"
    layer = re.sub(r"^bn(?=\d)", "norm", layer).replace("downsample.", "shortcut.")
    return f"{place}.{layer}"


def _for_pixels_of(config: DetectorConfig, first: Tensor, source: str) -> Tensor:
    """The first convolution (C, 3, 7, 7) for the detector's kind of pixels."""
    is_bgr = config.channel_order == "bgr"
    mean, std = list(config.pixel_mean), list(config.pixel_std)
    if is_bgr:
        mean, std = mean[::-1], std[::-1]
    if max(abs(a - b) for a, b in zip(mean, IMAGENET_MEAN_RGB, strict=True)) > _CLOSE:
        raise CheckpointError(
            f"{source}: learned with ImageNet's mean {IMAGENET_MEAN_RGB} (RGB), `pixel_mean` is "
            f"{tuple(mean)}; beside the border of a photo no weights can make up for that"
        )
    scale = torch.tensor(std) / torch.tensor(IMAGENET_STD_RGB)
    scaled = first * scale.to(first.dtype).view(1, 3, 1, 1)
    return scaled.flip(1) if is_bgr else scaled
