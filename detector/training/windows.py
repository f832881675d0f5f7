"""The phase before detection: name what is in small windows cut around the true boxes.

Letters: n windows of one step, each S x S pixels; A attribute slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from detector.model import AttributeRCNN
from detector.preprocess import normalise
from detector.training.config import CropWarmup
from detector.training.losses import attribute_loss, classifier_loss
from detector.training.parts import in_parts
from detector.training.photos import TrainingPhotos
from detector.training.sampling import BatchPlan, generator_for
from detector.training.targets import attribute_targets
from detector.training.together import Together
from storage.errors import UnreadableImageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """One step's windows.

    pixels:     (n, 3, S, S) float32  normalised; 0 outside the photo
    boxes:      (n, 4) float32        the object in its window [pixels], inside it
    class_ids:  (n,) int64
    attributes: (n, A) int64          0 = empty slot
    """

    pixels: Tensor
    boxes: Tensor
    class_ids: Tensor
    attributes: Tensor

    def to(self, device: torch.device) -> "Windows":
        """The same on a device."""
        return Windows(
            pixels=self.pixels.to(device),
            boxes=self.boxes.to(device),
            class_ids=self.class_ids.to(device),
            attributes=self.attributes.to(device),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPlan:
    """Which objects are cut out at which step.

    places: window size -> (photo, object) of each object that belongs to it
    plans:  window size -> order of its objects
    """

    warmup: CropWarmup
    seed: int
    places: dict[int, list[tuple[int, int]]]
    plans: dict[int, BatchPlan]

    def cut(self, photos: TrainingPhotos, step: int, together: Together | None = None) -> Windows:
        """The windows of one step (0-based) as far as they are this process's: sizes take turns."""
        together = together or Together()
        sizes = list(self.places)
        side = sizes[step % len(sizes)]
        chosen = self.plans[side].batch(step // len(sizes))
        generator = generator_for(self.seed, "windows", step)
        jitter = self.warmup.jitter_pixels
        shifts = torch.randint(-jitter, jitter + 1, (len(chosen), 2), generator=generator).tolist()
        is_flipped = (torch.rand(len(chosen), generator=generator) < 0.5).tolist()
        mine = together.share_of(chosen)
        return _stack(
            photos,
            [self.places[side][chosen[position]] for position in mine],
            side,
            [shifts[position] for position in mine],
            [is_flipped[position] for position in mine],
        ).to(together.device)


def plan_windows(photos: TrainingPhotos, warmup: CropWarmup, seed: int) -> WindowPlan:
    """Give every object the smallest window that holds it; the largest where none does."""
    places: dict[int, list[tuple[int, int]]] = {side: [] for side in warmup.window_sizes}
    for number, photo in enumerate(photos.photos):
        longest = (photo.truth.boxes[:, 2:] - photo.truth.boxes[:, :2] + 1).amax(dim=1)
        for position, length in enumerate(longest.tolist()):
            fitting = [side for side in warmup.window_sizes if side >= length]
            places[fitting[0] if fitting else warmup.window_sizes[-1]].append((number, position))
    batch_sizes = dict(zip(warmup.window_sizes, warmup.windows_per_step, strict=True))
    used = {side: members for side, members in places.items() if members}
    return WindowPlan(
        warmup=warmup,
        seed=seed,
        places=used,
        plans={
            side: BatchPlan(
                groups=(tuple(range(len(members))),),
                images_per_step=batch_sizes[side],
                seed=seed + side,
            )
            for side, members in used.items()
        },
    )


def window_losses(
    model: AttributeRCNN, windows: Windows, attribute_weight: float, parts: int = 1
) -> tuple[Tensor, Tensor]:
    """Class and attribute loss of the objects, pooled from their windows as detection does."""
    pixels = windows.pixels.contiguous(memory_format=torch.channels_last)
    boxes = list(windows.boxes[:, None])
    features = in_parts(
        lambda place: model.region_features(model.trunk(pixels[place]), boxes[place]),
        len(boxes),
        parts,
    )
    class_logits = model.box_head.class_logits(features)
    attribute_logits = model.attribute_head(features, windows.class_ids)
    return (
        classifier_loss(class_logits, windows.class_ids),
        attribute_loss(
            attribute_logits,
            attribute_targets(windows.attributes, model.config.num_attributes),
            attribute_weight,
        ),
    )


def _stack(
    photos: TrainingPhotos,
    places: Sequence[tuple[int, int]],
    side: int,
    shifts: Sequence[Sequence[int]],
    is_flipped: Sequence[bool],
) -> Windows:
    """Cut windows and put them in one batch, without photos that cannot be read."""
    pixels, boxes, class_ids, attributes = [], [], [], []
    for (number, position), shift, flip in zip(places, shifts, is_flipped, strict=True):
        truth = photos.photos[number].truth
        try:
            window, box = _cut(photos, number, truth.boxes[position].tolist(), side, shift)
        except UnreadableImageError as error:
            photos.set_aside(number, error)
            continue
        if flip:
            window = window.flip(2)
            box = [side - 1 - box[2], box[1], side - 1 - box[0], box[3]]
        pixels.append(window)
        boxes.append(box)
        class_ids.append(truth.class_ids[position])
        attributes.append(truth.attributes[position])
    if not pixels:
        none = torch.zeros(0, dtype=torch.int64)
        return Windows(
            pixels=torch.zeros(0, 3, side, side),
            boxes=torch.zeros(0, 4),
            class_ids=none,
            attributes=none[:, None],
        )
    return Windows(
        pixels=torch.stack(pixels),
        boxes=torch.tensor(boxes, dtype=torch.float32),
        class_ids=torch.stack(class_ids),
        attributes=torch.stack(attributes),
    )


def _cut(
    photos: TrainingPhotos, number: int, box: Sequence[float], side: int, shift: Sequence[int]
) -> tuple[Tensor, list[float]]:
    """(3, S, S) window around a box, moved by `shift`, and the box in it."""
    photo = photos.pixels(number)
    left, top = (
        _start((box[axis] + box[axis + 2]) / 2 + shift[axis], side, photo.shape[1 - axis])
        for axis in (0, 1)
    )
    part = photo[max(top, 0) : top + side, max(left, 0) : left + side]
    window = torch.zeros(3, side, side)
    down, right = max(-top, 0), max(-left, 0)
    window[:, down : down + part.shape[0], right : right + part.shape[1]] = normalise(
        np.ascontiguousarray(part), photos.config
    )
    limits = (left, top, left, top)
    return window, [
        min(max(value - start, 0.0), side - 1.0) for value, start in zip(box, limits, strict=True)
    ]


def _start(centre: float, side: int, length: int) -> int:
    """First pixel of a window: inside the photo where it fits, else the photo in its middle."""
    if length <= side:
        return -((side - length) // 2)
    return min(max(round(centre - side / 2), 0), length - side)
