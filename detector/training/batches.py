"""What enters the network at a detection step: pixels, or maps of a frozen trunk.

Letters: B images of this process, h x w cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from detector.model import AttributeRCNN
from detector.preprocess import normalise
from detector.training.config import DetectorTraining
from detector.training.photos import TrainingPhoto, TrainingPhotos
from detector.training.sampling import generator_for, plan_batches
from detector.training.targets import Truth
from detector.training.together import Together
from storage.errors import UnreadableImageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One step's images, as far as they are this process's; B may be 0.

    inputs:    (B, 3, H, W) pixels or (B, C, h, w) maps, padded with 0 at the right and below to
               the size of the whole batch
    sizes:     B sizes of the network inputs (height, width) [pixels]
    truths:    B
    positions: B places in the whole batch
    """

    inputs: Tensor
    sizes: tuple[tuple[int, int], ...]
    truths: tuple[Truth, ...]
    positions: tuple[int, ...]


class Batches:
    """Batches by step number; the same number, the same batch.

    Maps of a frozen trunk are computed when they are first wanted, and kept.
    """

    def __init__(
        self,
        photos: TrainingPhotos,
        model: AttributeRCNN,
        training: DetectorTraining,
        together: Together | None = None,
    ) -> None:
        self._photos = photos
        self._training = training
        self._together = together or Together()
        self._plan = plan_batches(
            [photo.size for photo in photos.photos],
            images_per_step=training.images_per_step,
            by_aspect=training.group_by_aspect,
            seed=training.seed,
            repeats=photos.repeats(training.balance, training.balance_below),
        )
        self.first_part = training.frozen_stages if training.cache_trunk else 0
        self._frozen = model.trunk.parts()[: self.first_part]
        self._maps: dict[tuple[int, bool], Tensor] = {}

    def at(self, step: int) -> Batch:
        """This process's share of the batch of a detection step (0-based).

        A photo that was not looked at before and cannot be read is left out and set aside.
        """
        numbers = self._plan.batch(step)
        generator = generator_for(self._training.seed, "flip", step)
        share = self._training.flip_probability
        is_flipped = (torch.rand(len(numbers), generator=generator) < share).tolist()
        inputs, positions = [], []
        for position in self._together.share_of(numbers):
            found = self._input(numbers[position], is_flipped[position])
            if found is not None:
                inputs.append(found)
                positions.append(position)
        photos = [self._photos.photos[numbers[position]] for position in positions]
        whole = [self._photos.photos[number].size for number in numbers]
        device = self._together.device
        return Batch(
            inputs=_padded(inputs, _size_of_all(inputs, photos, whole)).to(device),
            sizes=tuple(photo.size for photo in photos),
            truths=tuple(
                (photo.truth.flipped(photo.size[1]) if is_flipped[position] else photo.truth).to(
                    device
                )
                for photo, position in zip(photos, positions, strict=True)
            ),
            positions=tuple(positions),
        )

    def _compute_map(self, number: int, is_flipped: bool) -> None:
        with torch.no_grad():
            features = self._image(number, is_flipped)[None].to(self._together.device)
            for part in self._frozen:
                features = part(features)
        self._maps[number, is_flipped] = features[0].contiguous().cpu()
        self._shrunk_by = _shrunk_by(self._photos.photos[number].size, features.shape[2:])

    def _input(self, number: int, is_flipped: bool) -> Tensor | None:
        """Pixels or map of a photo, None if it cannot be read."""
        kept = self._maps.get((number, is_flipped))
        if kept is not None:
            return kept
        try:
            image = self._image(number, is_flipped)
        except UnreadableImageError as error:
            self._photos.set_aside(number, error)
            return None
        if not self._frozen:
            return image
        with torch.no_grad():
            features = image[None].to(self._together.device)
            for part in self._frozen:
                features = part(features)
        self._maps[number, is_flipped] = features[0].contiguous().cpu()
        return self._maps[number, is_flipped]

    def _image(self, number: int, is_flipped: bool) -> Tensor:
        image = normalise(self._photos.pixels(number), self._photos.config)
        return image.flip(2) if is_flipped else image


def _size_of_all(
    inputs: Sequence[Tensor],
    photos: Sequence[TrainingPhoto],
    sizes: Sequence[tuple[int, int]],
) -> tuple[int, int]:
    """Height and width that hold every image of a batch, or every map of them.

    Args:
        inputs: Of this process.
        photos: These.
        sizes: Of all images of the batch [pixels].
    """
    height, width = (max(size[axis] for size in sizes) for axis in (0, 1))
    if not inputs:
        return height, width
    cell = _shrunk_by(photos[0].size, inputs[0].shape[1:])
    return -(-height // cell), -(-width // cell)


def _shrunk_by(size: Sequence[int], cells: Sequence[int]) -> int:
    """Pixels per cell: every stage of a trunk halves or leaves it, rounding up."""
    return next(
        step
        for step in (1, 2, 4, 8, 16, 32)
        if all(-(-pixels // step) == number for pixels, number in zip(size, cells, strict=True))
    )


def _padded(inputs: list[Tensor], size: tuple[int, int]) -> Tensor:
    """Put (C, h, w) tensors at the top left of a batch of zeros."""
    if not inputs:
        return torch.zeros(0, 3, *size)
    if all(tuple(each.shape[1:]) == size for each in inputs):
        return torch.stack(inputs)
    batch = inputs[0].new_zeros(len(inputs), inputs[0].shape[0], *size)
    for place, each in zip(batch, inputs, strict=True):
        place[:, : each.shape[1], : each.shape[2]] = each
    return batch
