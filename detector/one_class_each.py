"""Filter 1, the one behind the published features: each proposal once, under its best class.

The rule: in every class, suppress all proposals by that class's probabilities; a proposal's class
is the one with its highest probability among those where it survived. Done literally that is one
suppression per class over all proposals. Here all (proposal, class) pairs are walked by falling
probability: when a pair's turn comes, every pair that could suppress it is settled, and the first
pair of a proposal that survives gives its class. The walk ends as soon as enough proposals have
one, which for 300 proposals and 1594 classes is after some hundred pairs instead of 478,200.

Letters: n proposals of one image, C classes with background, G = C boxes per proposal or 1.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.constants import FILTER1_OVERLAP

_FLOORS = (0.1, 0.01)  # shares of the threshold below which sorting starts only if needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """By falling probability.

    proposals: (k,) int64
    class_ids: (k,) int64  1..C-1
    """

    proposals: NDArray[np.int64]
    class_ids: NDArray[np.int64]


def choose_one_class_each(
    probabilities: NDArray[np.float32],
    boxes: NDArray[np.float32],
    *,
    threshold: float,
    fewest: int,
    most: int,
) -> Chosen:
    """The proposals whose best surviving class reaches `threshold`, at least and at most so many.

    Among equal probabilities the lower proposal goes first, then the lower class.

    Args:
        probabilities: (n, C) float32, background first.
        boxes: (n, G, 4) float32.
        threshold: Probability that counts (or equals).
        fewest: Filled up from below the threshold, as far as proposals survive anywhere.
        most: The worst beyond it are left out.

    Source: `specs/detector.md` 5, filter 1; SGB `box_head/inference.py:filter_results_peter`.
    """
    suppression = _SharedBoxes(boxes[:, 0]) if boxes.shape[1] == 1 else _BoxesPerClass(boxes)
    class_by_proposal: dict[int, int] = {}
    for proposal, class_id, is_good in _pairs_by_probability(probabilities, threshold):
        if len(class_by_proposal) >= (most if is_good else min(fewest, most)):
            break
        if len(class_by_proposal) == len(probabilities):
            break
        if suppression.survives(proposal, class_id):
            class_by_proposal.setdefault(proposal, class_id)
    return Chosen(
        proposals=np.fromiter(class_by_proposal.keys(), np.int64, len(class_by_proposal)),
        class_ids=np.fromiter(class_by_proposal.values(), np.int64, len(class_by_proposal)),
    )


class _SharedBoxes:
    """Suppression where all classes share a proposal's box.

    Proposals that overlap too much are bits of one number per proposal, so a pair is settled by
    one `and`.
    """

    def __init__(self, boxes: NDArray[np.float32]) -> None:
        is_near = _overlaps(boxes, boxes) > FILTER1_OVERLAP
        packed = np.packbits(is_near, axis=1, bitorder="little")
        self._near = [int.from_bytes(row.tobytes(), "little") for row in packed]
        self._kept: defaultdict[int, int] = defaultdict(int)

    def survives(self, proposal: int, class_id: int) -> bool:
        """Whether no kept proposal of the class overlaps this one too much; if so, keep it."""
        if self._near[proposal] & self._kept[class_id]:
            return False
        self._kept[class_id] |= 1 << proposal
        return True


class _BoxesPerClass:
    """Suppression where each class has its own box of each proposal."""

    def __init__(self, boxes: NDArray[np.float32]) -> None:
        self._boxes = boxes
        self._kept: defaultdict[int, list[NDArray[np.float32]]] = defaultdict(list)

    def survives(self, proposal: int, class_id: int) -> bool:
        """Whether no kept box of the class overlaps this one too much; if so, keep it."""
        box = self._boxes[proposal, class_id]
        kept = self._kept[class_id]
        if kept and (_overlaps(np.stack(kept), box[None]) > FILTER1_OVERLAP).any():
            return False
        kept.append(box)
        return True


def _overlaps(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Intersection over union (K, L) in single precision, sides not counted inclusively.

    NaN where both have no area: nothing is suppressed then. Given as float64 so that comparing
    with 0.3 is done as torchvision does it.
    """
    sides = np.minimum(first[:, None, 2:], second[None, :, 2:]) - np.maximum(
        first[:, None, :2], second[None, :, :2]
    )
    sides = np.maximum(sides, np.float32(0))
    intersection = sides[..., 0] * sides[..., 1]
    areas = [(group[:, 2] - group[:, 0]) * (group[:, 3] - group[:, 1]) for group in (first, second)]
    with np.errstate(invalid="ignore", divide="ignore"):
        overlaps = intersection / (areas[0][:, None] + areas[1][None] - intersection)
    widened: NDArray[np.float64] = overlaps.astype(np.float64)
    return widened


def _pairs_by_probability(
    probabilities: NDArray[np.float32], threshold: float
) -> Iterator[tuple[int, int, bool]]:
    """(proposal, class, probability >= threshold) by falling probability; zeros never come.

    Sorted piece by piece, since usually only pairs above the threshold are ever asked for.
    """
    values = probabilities[:, 1:]
    is_waiting = values > 0
    for floor in (threshold, *(threshold * share for share in _FLOORS), 0.0):
        is_next = is_waiting & (values >= np.float32(floor))
        is_waiting &= ~is_next
        proposals, classes = np.nonzero(is_next)
        order = np.argsort(-values[proposals, classes], kind="stable")
        for proposal, class_id in zip(
            proposals[order].tolist(), (classes[order] + 1).tolist(), strict=True
        ):
            yield proposal, class_id, floor >= threshold
