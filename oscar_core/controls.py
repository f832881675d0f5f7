"""Controls: the same evaluation with the pictures of other images."""

from collections.abc import Mapping, Sequence

import numpy as np

from oscar_core.errors import TaskError

_CONTROL = 7


def swapped_images(image_ids: Sequence[str], seed: int) -> Mapping[str, str]:
    """Give every image another one, each used once: a derangement.

    The images in a random order form one circle, and each takes its successor.

    Raises:
        TaskError: Fewer than two images.
    """
    names = sorted(set(image_ids))
    if len(names) < 2:
        raise TaskError(f"a control needs at least 2 images, not {len(names)}")
    order = [names[i] for i in np.random.default_rng([_CONTROL, seed]).permutation(len(names))]
    return dict(zip(order, order[1:] + order[:1], strict=True))
