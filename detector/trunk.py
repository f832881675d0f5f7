"""Where a trunk is chosen.

A trunk is a module (B, 3, H, W) -> (B, C4, ceil(H/16), ceil(W/16)) with `width` = C4 and
`parts()`, the modules an image passes through in turn; its last stage, "res5", is a module
(R, C4, P, P) -> (R, D, p, p) with `width` = D.
"""

from detector.config import DetectorConfig
from detector.efficientnet_lite0 import LiteC4, LiteRes5
from detector.resnext import ResNetC4, ResNetRes5

Trunk = ResNetC4 | LiteC4
Res5 = ResNetRes5 | LiteRes5


def build_trunk(config: DetectorConfig) -> Trunk:
    """The configured trunk with random weights."""
    return ResNetC4(config) if config.trunk == "resnet_c4" else LiteC4(config.norm)


def build_res5(config: DetectorConfig) -> Res5:
    """The configured last stage with random weights."""
    return ResNetRes5(config) if config.trunk == "resnet_c4" else LiteRes5(config.norm)
