"""What each part of a batch counts for, so that objectives are means over the whole batch.

A mean over masked words depends on how many a part holds. Averaged part by part, another number
of processes or parts gives another loss; averaged over the batch, the same.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from oscar_core.training.config import TrainingConfig
from oscar_core.training.lesson import Lesson
from oscar_core.training.loader import Part
from oscar_core.training.together import Together


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A part of a batch, as others need to know it.

    pool:    examples of another data set have a mean of their own (`Part.pool`)
    weight:  of the part
    targets: objective -> number its mean is over
    """

    pool: int
    weight: float
    targets: Mapping[str, int]


def factors_of(
    lesson: Lesson, training: TrainingConfig, together: Together, parts: Sequence[Part]
) -> list[dict[str, float]]:
    """What each objective of each part of this process is multiplied by.

    All processes call it alike.

    Returns:
        Objective -> factor, of each part; {} where the part counts by its examples.
    """
    if training.averaging == "part":
        return [{} for _ in parts]
    own = [
        Counted(
            pool=part.pool,
            weight=part.weight,
            targets=lesson.task.num_targets(lesson.config, part.batch),
        )
        for part in parts
    ]
    told = together.exchange({"parts": [asdict(each) for each in own]})
    return factors(own, [Counted(**part) for each in told for part in each["parts"]])


def factors(own: Sequence[Counted], everybodys: Sequence[Counted]) -> list[dict[str, float]]:
    """Share of each part in the targets of all parts of its pool.

    Args:
        own: Parts of this process.
        everybodys: Parts of all processes.

    Returns:
        Objective -> that share times the weight of those parts, of each own part.
    """
    weights: defaultdict[int, float] = defaultdict(float)
    numbers: defaultdict[tuple[int, str], int] = defaultdict(int)
    for part in everybodys:
        weights[part.pool] += part.weight
        for name, number in part.targets.items():
            numbers[part.pool, name] += number
    return [
        {
            name: number * weights[part.pool] / max(1, numbers[part.pool, name])
            for name, number in part.targets.items()
        }
        for part in own
    ]
