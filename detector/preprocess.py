"""From decoded photos to the network's input.

Letters: B images, H x W the largest height and width in the batch. Sizes are (height, width).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from detector.config import DetectorConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelImages:
    """A padded batch.

    pixels:         (B, 3, H, W) float32  normalised; 0 right of and below each image
    sizes:          B sizes of the images inside the batch [pixels]
    original_sizes: B sizes of the photos [pixels]
    """

    pixels: Tensor
    sizes: tuple[tuple[int, int], ...]
    original_sizes: tuple[tuple[int, int], ...]


def network_size(height: int, width: int, *, min_size: int, max_size: int) -> tuple[int, int]:
    """Size a photo is resized to: short side `min_size`, long side at most `max_size`.

    Sides are cut, not rounded, except that the short side under the `max_size` rule is rounded
    half to even. A strip so long that its short side would round to 0 becomes 1 pixel high.

    Source: `specs/detector.md` 3; maskrcnn-benchmark `data/transforms/transforms.py:Resize`.
    """
    shorter, longer = min(height, width), max(height, width)
    short_side = min_size
    if longer / shorter * short_side > max_size:
        short_side = round(max_size * shorter / longer)
    if short_side == 0:
        return (max_size, 1) if width < height else (1, max_size)
    if shorter == short_side:
        return height, width
    if width < height:
        return int(short_side * height / width), short_side
    return short_side, int(short_side * width / height)


def resize(pixels: NDArray[np.uint8], config: DetectorConfig) -> NDArray[np.uint8]:
    """(H0, W0, 3) uint8 photo -> (h, w, 3) uint8 in the configured size, antialiased bilinear.

    Pillow 13 resamples rows before columns where the height loses more than twice as many pixels
    as the width, earlier releases never; a grey level here and there depends on it. The order of
    Pillow 13, with which the reference values were recorded, is kept under any release.

    Source: `specs/detector.md` 3; Pillow 13.0.0 `src/libImaging/Resample.c`.
    """
    height, width = network_size(
        *pixels.shape[:2], min_size=config.min_size, max_size=config.max_size
    )
    lost_height, lost_width = pixels.shape[0] - height, pixels.shape[1] - width
    if lost_height == lost_width == 0:
        return pixels
    image = Image.fromarray(pixels)
    if lost_height > max(2 * lost_width, 0):
        image = image.resize((image.width, height), Image.Resampling.BILINEAR)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def normalise(pixels: NDArray[np.uint8], config: DetectorConfig) -> Tensor:
    """(h, w, 3) RGB uint8 -> (3, h, w) float32: channel order, minus mean, by deviation.

    The way over [0, 1] and back is the published one, kept for equal bits.
    """
    channels = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    scaled = channels.to(torch.float32).div_(255)
    if config.channel_order == "bgr":
        scaled = scaled.flip(0)
    scaled = scaled * 255
    scaled -= torch.tensor(config.pixel_mean).view(3, 1, 1)
    if config.pixel_std != (1.0, 1.0, 1.0):
        scaled /= torch.tensor(config.pixel_std).view(3, 1, 1)
    return scaled


def whole_cells(height: int, width: int, config: DetectorConfig) -> tuple[int, int]:
    """Both sides made longer by less than a cell, so that the map's cells are full [pixels].

    The map has the same number of cells as without, and no anchor lies wholly in the padding.
    """
    stride = config.anchor_stride
    return -(-height // stride) * stride, -(-width // stride) * stride


def to_batch(
    resized: Sequence[NDArray[np.uint8]],
    original_sizes: Sequence[tuple[int, int]],
    config: DetectorConfig,
    *,
    pads: bool = False,
) -> ModelImages:
    """Normalise resized photos and put each at the top left of a batch of zeros.

    Args:
        resized: B arrays (h, w, 3) uint8 RGB from `resize`.
        original_sizes: Their sizes before [pixels].
        config: Input settings.
        pads: Make each photo longer to `whole_cells`, also if it is alone or all are equal.

    Source: `specs/detector.md` 3; maskrcnn-benchmark `structures/image_list.py`, no divisibility.
    """
    images = [normalise(pixels, config) for pixels in resized]
    sizes = tuple((int(image.shape[1]), int(image.shape[2])) for image in images)
    outer = [whole_cells(*size, config) for size in sizes] if pads else sizes
    height, width = (max(sides) for sides in zip(*outer, strict=True))
    if set(sizes) == {(height, width)}:
        batch = torch.stack(images)
    else:
        batch = torch.zeros(len(images), 3, height, width)
        for place, image, (rows, columns) in zip(batch, images, sizes, strict=True):
            place[:, :rows, :columns] = image
    return ModelImages(pixels=batch, sizes=sizes, original_sizes=tuple(original_sizes))


def to_model_images(photos: Sequence[NDArray[np.uint8]], config: DetectorConfig) -> ModelImages:
    """(H0, W0, 3) uint8 RGB photos -> one padded batch.

    Photos of unequal size change each other's values near the padding (as in the original), so
    features are reproducible only batch by batch; one photo, or photos of one size, are safe.
    """
    original_sizes = [(int(photo.shape[0]), int(photo.shape[1])) for photo in photos]
    return to_batch([resize(photo, config) for photo in photos], original_sizes, config)
