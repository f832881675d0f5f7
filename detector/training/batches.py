"""What enters the network at a detection step: pixels, or maps of a frozen trunk computed once.

Letters: B images, h x w cells.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from detector.model import AttributeRCNN
from detector.preprocess import normalise
from detector.training.config import DetectorTraining
from detector.training.photos import TrainingPhotos
from detector.training.sampling import generator_for, plan_batches
from detector.training.targets import Truth


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One step's images.

    inputs: (B, 3, H, W) pixels or (B, C, h, w) maps, padded with 0 at the right and below
    sizes:  B sizes of the network inputs (height, width) [pixels]
    truths: B
    """

    inputs: Tensor
    sizes: tuple[tuple[int, int], ...]
    truths: tuple[Truth, ...]


class Batches:
    """Batches by step number; the same number, the same batch."""

    def __init__(
        self, photos: TrainingPhotos, model: AttributeRCNN, training: DetectorTraining
    ) -> None:
        self._photos = photos
        self._training = training
        self._plan = plan_batches(
            [photo.size for photo in photos.photos],
            images_per_step=training.images_per_step,
            by_aspect=training.group_by_aspect,
            seed=training.seed,
        )
        self.first_part = training.frozen_stages if training.cache_trunk else 0
        self._frozen = model.trunk.parts()[: self.first_part]
        self._maps: dict[tuple[int, bool], Tensor] = {}

    def compute_maps(self, on_photo: Callable[[int, int], None] | None = None) -> None:
        """Run the frozen part of the trunk over every photo and its mirror image, if asked for."""
        if not self._frozen:
            return
        mirrored = (False, True) if self._training.flip_probability > 0 else (False,)
        for number in range(len(self._photos)):
            for is_flipped in mirrored:
                with torch.no_grad():
                    features = self._image(number, is_flipped)[None]
                    for part in self._frozen:
                        features = part(features)
                self._maps[number, is_flipped] = features[0].contiguous()
            if on_photo is not None:
                on_photo(number + 1, len(self._photos))

    def at(self, step: int) -> Batch:
        """The batch of a detection step (0-based)."""
        numbers = self._plan.batch(step)
        generator = generator_for(self._training.seed, "flip", step)
        share = self._training.flip_probability
        is_flipped = (torch.rand(len(numbers), generator=generator) < share).tolist()
        photos = [self._photos.photos[number] for number in numbers]
        truths = [
            photo.truth.flipped(photo.size[1]) if flip else photo.truth
            for photo, flip in zip(photos, is_flipped, strict=True)
        ]
        inputs = [
            self._maps[number, flip] if self._frozen else self._image(number, flip)
            for number, flip in zip(numbers, is_flipped, strict=True)
        ]
        return Batch(
            inputs=_padded(inputs),
            sizes=tuple(photo.size for photo in photos),
            truths=tuple(truths),
        )

    def _image(self, number: int, is_flipped: bool) -> Tensor:
        image = normalise(self._photos.pixels(number), self._photos.config)
        return image.flip(2) if is_flipped else image


def _padded(inputs: list[Tensor]) -> Tensor:
    """Put (C, h, w) tensors at the top left of a batch of zeros."""
    if len({each.shape for each in inputs}) == 1:
        return torch.stack(inputs)
    height = max(each.shape[1] for each in inputs)
    width = max(each.shape[2] for each in inputs)
    batch = inputs[0].new_zeros(len(inputs), inputs[0].shape[0], height, width)
    for place, each in zip(batch, inputs, strict=True):
        place[:, : each.shape[1], : each.shape[2]] = each
    return batch
