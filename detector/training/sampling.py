"""Random choices of the training, each a function of the seed and of what it is for.

No generator lives longer than one choice, so an interrupted run that goes on draws the same.
"""

from collections.abc import Sequence
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


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """Which images make up which step, forever; pass one epoch and the next is shuffled anew.

    groups: lists of image indices that may share a batch (landscape and portrait apart)
    """

    groups: tuple[tuple[int, ...], ...]
    images_per_step: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Batches until every image was seen once."""
        return sum(-(-len(group) // self.images_per_step) for group in self.groups)

    def batch(self, step: int) -> list[int]:
        """Image indices of one step (0-based). A last short batch is filled from its group."""
        epoch, position = divmod(step, self.steps_per_epoch)
        generator = generator_for(self.seed, "epoch", epoch)
        batches: list[list[int]] = []
        for group in self.groups:
            order = [group[i] for i in torch.randperm(len(group), generator=generator).tolist()]
            for start in range(0, len(order), self.images_per_step):
                chosen = order[start : start + self.images_per_step]
                missing = self.images_per_step - len(chosen)
                batches.append(chosen + order[: min(missing, start)])
        shuffled = torch.randperm(len(batches), generator=generator).tolist()
        return batches[shuffled[position]]


def plan_batches(
    sizes: Sequence[tuple[int, int]], *, images_per_step: int, by_aspect: bool, seed: int
) -> BatchPlan:
    """Group images so that little of a batch is padding.

    Args:
        sizes: (height, width) of each image.
        images_per_step: Images in one batch.
        by_aspect: Keep landscape and portrait images in separate batches.
        seed: Of the shuffling.

    Source: maskrcnn-benchmark `grouped_batch_sampler.py`, `DATALOADER.ASPECT_RATIO_GROUPING`.
    """
    is_portrait = [by_aspect and height >= width for height, width in sizes]
    groups = tuple(
        tuple(index for index, portrait in enumerate(is_portrait) if portrait == wanted)
        for wanted in (False, True)
    )
    return BatchPlan(
        groups=tuple(group for group in groups if group), images_per_step=images_per_step, seed=seed
    )


def _choose(candidates: Tensor, number: int, generator: Generator) -> Tensor:
    chosen = torch.randperm(len(candidates), generator=generator)[:number]
    return candidates[chosen.sort().values.to(candidates.device)]
