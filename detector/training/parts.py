"""A batch that goes through the network in parts, where memory is short.

What a part needs for its gradient is not kept but computed again when the gradient is wanted, so
at any time it is there for one part only. All that is decided over the whole batch, samples and
means, stays as it is: losses and gradients are the same but for rounding. Not so with live
statistics (`DetectorConfig.norm` "batch"), which are those of the images seen together.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def in_parts(compute: Callable[[slice], Tensor], num_images: int, parts: int) -> Tensor:
    """Compute something of each image of a batch.

    Args:
        compute: Of a slice of the images; results of single images do not depend on the others.
        num_images: In the batch.
        parts: How many; 1 keeps everything for the gradient.

    Returns:
        The results one behind the other, in the order of the images.
    """
    if parts == 1:
        return compute(slice(0, num_images))
    size = -(-num_images // parts)
    places = [slice(start, start + size) for start in range(0, num_images, size)]
    return torch.cat([checkpoint(compute, place, use_reentrant=False) for place in places])
