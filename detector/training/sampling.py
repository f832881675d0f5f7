"""Random choices of the training, each a function of the seed and of what it is for.

No generator lives longer than one choice, so an interrupted run that goes on draws the same.
"""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Generator, Tensor


def generator_for(seed: int, *purpose: str | int) -> Generator:
    """A generator that depends on the seed and the words and numbers of `purpose` alone."""
    name = "/".join(str(part) for part in (seed, *purpose))
    number = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
    return Generator().manual_seed(number % 2**63)


def sample_balanced(
    labels: Tensor, *, number: int, positive_fraction: float, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Choose at most `number` of the labelled boxes, at most a fraction of them positive.

    Positives that are missing are made up by negatives, not the other way round.

    Args:
        labels: (K,) int64; > 0 positive, 0 negative, < 0 never chosen.
        number: Most boxes to choose.
        positive_fraction: Most of them that may be positive.
        generator: Source of the permutation.

    Returns:
        Indices (P,) of positives and (Q,) of negatives, int64, ascending.

    Source: `specs/detector.md` 13; maskrcnn-benchmark
    `balanced_positive_negative_sampler.py`.
    """
    positives = torch.nonzero(labels > 0).flatten()
    negatives = torch.nonzero(labels == 0).flatten()
    num_positive = min(len(positives), int(number * positive_fraction))
    num_negative = min(len(negatives), number - num_positive)
    return (
        _choose(positives, num_positive, generator),
        _choose(negatives, num_negative, generator),
    )


def repeat_factors(
    labels_by_image: Sequence[Collection[int]], *, below: float
) -> tuple[float, ...]:
    """How often each image is to be shown in an epoch so that rare labels come more often.

    A label that a share f of the images shows wants sqrt(below / f) of them, at least once; an
    image is shown as often as the rarest of its labels wants.

    Args:
        labels_by_image: Classes, attributes or both of each image.
        below: Share of images under which a label counts as rare.

    Source: repeat factor sampling, Gupta, Dollar, Girshick 2019, "LVIS", section "baseline".
    """
    counts = Counter(label for labels in labels_by_image for label in set(labels))
    wanted = {
        label: max(1.0, math.sqrt(below * len(labels_by_image) / count))
        for label, count in counts.items()
    }
    return tuple(
        max((wanted[label] for label in labels), default=1.0) for labels in labels_by_image
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """Which images make up which step, forever; pass one epoch and the next is shuffled anew.

    groups:  lists of image indices that may share a batch (landscape and portrait apart)
    repeats: how often each image comes in an epoch, on average; None for once each
    """

    groups: tuple[tuple[int, ...], ...]
    images_per_step: int
    seed: int
    repeats: tuple[float, ...] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Batches until every image was seen as often as it is to be seen."""
        return sum(-(-self._length(group) // self.images_per_step) for group in self.groups)

    def batch(self, step: int) -> list[int]:
        """Image indices of one step (0-based). A last short batch is filled from its group."""
        epoch, position = divmod(step, self.steps_per_epoch)
        generator = generator_for(self.seed, "epoch", epoch)
        batches: list[list[int]] = []
        for group in self.groups:
            shown = group if self.repeats is None else self._repeated(group, generator)
            order = [shown[i] for i in torch.randperm(len(shown), generator=generator).tolist()]
            for start in range(0, len(order), self.images_per_step):
                chosen = order[start : start + self.images_per_step]
                missing = self.images_per_step - len(chosen)
                batches.append(chosen + order[: min(missing, start)])
        shuffled = torch.randperm(len(batches), generator=generator).tolist()
        return batches[shuffled[position]]

    def _length(self, group: Sequence[int]) -> int:
        """Images of a group in an epoch, the same in each epoch."""
        if self.repeats is None:
            return len(group)
        return max(1, round(sum(self.repeats[number] for number in group)))

    def _repeated(self, group: Sequence[int], generator: Generator) -> list[int]:
        """Each image as often as it comes this epoch: its factor, rounded up or down by chance."""
        assert self.repeats is not None
        factors = torch.tensor([self.repeats[number] for number in group], dtype=torch.float64)
        length = self._length(group)
        ends = factors.cumsum(0) / factors.sum() * length
        ends[-1] = length  # rounding must not lose the last one
        offset = torch.rand(1, generator=generator, dtype=torch.float64)
        marks = (ends + offset).floor().to(torch.int64)
        times = marks - torch.cat((marks.new_zeros(1), marks[:-1]))
        return [number for number, n in zip(group, times.tolist(), strict=True) for _ in range(n)]


def plan_batches(
    sizes: Sequence[tuple[int, int]],
    *,
    images_per_step: int,
    by_aspect: bool,
    seed: int,
    repeats: tuple[float, ...] | None = None,
) -> BatchPlan:
    """Group images so that little of a batch is padding.

    Args:
        sizes: (height, width) of each image.
        images_per_step: Images in one batch.
        by_aspect: Keep landscape and portrait images in separate batches.
        seed: Of the shuffling.
        repeats: How often each image comes in an epoch; None for once each.

    Source: maskrcnn-benchmark `grouped_batch_sampler.py`, `DATALOADER.ASPECT_RATIO_GROUPING`.
    """
    is_portrait = [by_aspect and height >= width for height, width in sizes]
    groups = tuple(
        tuple(index for index, portrait in enumerate(is_portrait) if portrait == wanted)
        for wanted in (False, True)
    )
    return BatchPlan(
        groups=tuple(group for group in groups if group),
        images_per_step=images_per_step,
        seed=seed,
        repeats=repeats,
    )


def _choose(candidates: Tensor, number: int, generator: Generator) -> Tensor:
    chosen = torch.randperm(len(candidates), generator=generator)[:number]
    return candidates[chosen.sort().values.to(candidates.device)]
