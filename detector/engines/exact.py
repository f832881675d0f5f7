"""The exact engine: float32, with the normalisation folded into the convolutions."""

import torch

from detector.engine import Engine
from detector.folding import fold_norms
from detector.model import AttributeRCNN


def prepare_exact(model: AttributeRCNN, device: str = "cpu") -> Engine:
    """The model ready to detect in float32.

    Args:
        model: In evaluation mode; stays as it is.
        device: Where the network computes.
    """
    return fold_norms(model).to(memory_format=torch.channels_last).to(device)
