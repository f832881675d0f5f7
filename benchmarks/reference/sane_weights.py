"""Random weights of the published size under which a network behaves like a trained one.

Plain random weights let activations grow or die over fifty blocks, and no class stands out. Here
normalisation is set to what some photos show, and the last layers are scaled until proposals,
classes and attributes differ from region to region.

Letters: R regions, D feature width.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from detector.config import DetectorConfig
from detector.model import AttributeRCNN
from detector.preprocess import to_model_images
from detector.published.checkpoint_names import to_published
from detector.resnext import Bottleneck

_BRANCH_SCALE = 0.1
"""Of what a block adds. It decides how much the network makes of a small error: noise on the pixels
comes out of X152-C4 in its features with 14 times the relative energy (with 0.35: 2,600 times).
Trained networks: EfficientNet-Lite0 40 times, a ResNet-50 1.0."""
_NUM_REGIONS = 60  # of each photo
_CLASS_SPREAD = 1.5  # deviation of a class's logit over regions: of so many classes some stand out
_ATTRIBUTE_SPREAD = 3.0
_DELTA_SPREAD = 0.5


def sane_weights(
    config: DetectorConfig, *photos: NDArray[np.uint8], seed: int
) -> dict[str, Tensor]:
    """Published names and tensors of a network that sees things.

    Args:
        config: Of the network; normalisation must be frozen.
        photos: (H, W, 3) each, small ones will do; one is enough to look at that one, for others
            there should be some. They are brought to the size of the first.
        seed: Of all draws.
    """
    torch.manual_seed(seed)
    live = AttributeRCNN(replace(config, norm="batch")).train()
    for module in live.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.normal_(module.bias, std=0.1)
    with torch.no_grad():
        for module in live.modules():
            if isinstance(module, Bottleneck) and isinstance(module.norm3, nn.BatchNorm2d):
                module.norm3.weight.mul_(_BRANCH_SCALE)
        height, width = photos[0].shape[:2]
        alike = [np.asarray(Image.fromarray(each).resize((width, height))) for each in photos]
        images = to_model_images(alike, config)
        boxes = [_some_boxes(*size) for size in images.sizes]
        c4 = live.trunk(images.pixels)
        live.res5(live.pool(c4, boxes))
        live.eval()
        _spread_heads(live, live.trunk(images.pixels), boxes)
    return to_published(live.state_dict(), live.cell_anchors)


def _some_boxes(height: int, width: int) -> Tensor:
    """(R, 4) boxes of all sizes and places."""
    corners = torch.rand(_NUM_REGIONS, 2, 2).sort(dim=1).values
    return (corners * torch.tensor((width - 1, height - 1))).reshape(_NUM_REGIONS, 4)


def _spread_heads(model: AttributeRCNN, c4: Tensor, boxes: Sequence[Tensor]) -> None:
    """Scale the last layers by what they say of the photos."""
    hidden = nn.functional.relu(model.rpn_head.conv(c4)).movedim(1, 3).flatten(0, 2)
    _spread(model.rpn_head.logits, hidden, 2.0)
    _spread(model.rpn_head.deltas, hidden, 0.3)
    features = model.region_features(c4, boxes)
    _spread(model.box_head.class_logits, features, _CLASS_SPREAD)
    _spread(model.box_head.box_deltas, features, _DELTA_SPREAD)
    nn.init.normal_(model.attribute_head.class_embedding.weight)
    ids = model.box_head.class_logits(features)[:, 1:].argmax(dim=1) + 1
    known = torch.cat((features, model.attribute_head.class_embedding(ids)), dim=1)
    _spread(model.attribute_head.hidden, known, 1.0)
    hidden = nn.functional.relu(model.attribute_head.hidden(known))
    _spread(model.attribute_head.logits, hidden, _ATTRIBUTE_SPREAD)


def _spread(layer: nn.Module, inputs: Tensor, deviation: float) -> None:
    """Random weights whose outputs have mean 0 and the given deviation over (R, D) inputs."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    assert isinstance(bias, Tensor)
    mean = inputs.mean(dim=0)
    centred = inputs - mean
    rows = torch.randn(len(weight), inputs.shape[1])
    rows *= deviation / (centred @ rows.T).std(dim=0).clamp(min=1e-6)[:, None]
    weight.copy_(rows.view(weight.shape))
    bias.copy_(-(rows @ mean))
