from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import nms

from detector.boxes import decode
from detector.compat import Compat
from detector.config import DetectorConfig, RegionRules
from detector.errors import DetectorConfigError
from detector.one_class_each import choose_one_class_each
from detector.postprocess import Kept, keep_regions, name_forced_boxes
from tests.builders_detector import tiny_config

SIZE = (100, 100)
APART = torch.tensor([[0.0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9], [60, 0, 69, 9]])


def keep(
    probabilities: list[list[float]],
    boxes: Tensor = APART,
    *,
    deltas: Tensor | None = None,
    compat: Compat | None = None,
    **rules: Any,
) -> Kept:
    """Rows of probabilities (background first) through the configured filter."""
    bounds = {"min_regions": 0, "score_threshold": 0.2} | rules
    config = tiny_config(num_classes=len(probabilities[0]), num_attributes=30)
    return keep_regions(
        torch.tensor(probabilities).log(),
        deltas,
        boxes[: len(probabilities)],
        SIZE,
        config,
        RegionRules(**bounds),
        compat or Compat(),
    )


def test_filter_1_takes_the_best_class_in_which_a_proposal_survives() -> None:
    twins = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8]])
    kept = keep([[0.1, 0.6, 0.3], [0.1, 0.5, 0.4]], twins)
    assert kept.proposals.tolist() == [0, 1]
    assert kept.class_ids.tolist() == [1, 2]
    assert kept.scores.tolist() == pytest.approx([0.6, 0.4])


def test_filter_1_fills_up_to_the_minimum_and_stops_at_the_maximum() -> None:
    rows = [[0.5, 0.5], [0.7, 0.3], [0.9, 0.1], [0.95, 0.05]]
    assert keep(rows).proposals.tolist() == [0, 1]
    assert keep(rows, min_regions=3).proposals.tolist() == [0, 1, 2]
    assert keep(rows, min_regions=50).proposals.tolist() == [0, 1, 2, 3]
    assert keep(rows, max_regions=1).proposals.tolist() == [0]
    assert keep(rows, min_regions=4, max_regions=3).proposals.tolist() == [0, 1, 2]


def test_filter_1_counts_a_score_that_equals_the_threshold() -> None:
    threshold = float(torch.tensor([[0.25, 0.75]]).log().softmax(1)[0, 0])
    rows = [[1 - threshold, threshold], [0.9, 0.1]]
    assert keep(rows, score_threshold=threshold).proposals.tolist() == [0]
    assert keep(rows, filter=0, score_threshold=threshold).proposals.tolist() == []


def test_filter_1_drops_proposals_that_survive_nowhere() -> None:
    twins = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 9]])
    assert keep([[0.4, 0.6], [0.5, 0.5]], twins, min_regions=2).proposals.tolist() == [0]


def test_filter_1_keeps_equal_boxes_without_area() -> None:
    lines = torch.tensor([[5.0, 5, 5, 9], [5, 5, 5, 9]])
    assert keep([[0.4, 0.6], [0.4, 0.6]], lines).proposals.tolist() == [0, 1]
    squares = torch.tensor([[5.0, 5, 9, 9], [5, 5, 9, 9]])
    assert keep([[0.4, 0.6], [0.4, 0.6]], squares).proposals.tolist() == [0]


def one_class_each_literally(
    probabilities: Tensor, boxes: Tensor, threshold: float, fewest: int, most: int
) -> list[tuple[int, int]]:
    """The rule as it is written: suppression in every class, then the best that is left."""
    left = torch.zeros_like(probabilities)
    for class_id in range(1, probabilities.shape[1]):
        own = boxes[:, min(class_id, boxes.shape[1] - 1)]
        survivors = nms(own, probabilities[:, class_id], 0.3)
        left[survivors, class_id] = probabilities[survivors, class_id]
    scores, class_ids = left.max(dim=1)
    order = [i for i in scores.argsort(descending=True, stable=True).tolist() if scores[i] > 0]
    number = min(max(int((scores >= threshold).sum()), fewest), most)
    return [(i, int(class_ids[i])) for i in order[:number]]


@given(
    seed=st.integers(0, 10**6),
    num=st.integers(0, 12),
    num_classes=st.integers(2, 5),
    is_shared=st.booleans(),
    threshold=st.sampled_from([0.0, 0.05, 0.3, 0.9]),
    fewest=st.integers(0, 8),
    most=st.integers(1, 12),
)
def test_filter_1_equals_the_literal_rule(
    seed: int, num: int, num_classes: int, is_shared: bool, threshold: float, fewest: int, most: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, 8, (num, 1 if is_shared else num_classes, 2), generator=generator)
    sides = torch.randint(0, 8, corners.shape, generator=generator)
    boxes = torch.cat((corners, corners + sides), dim=2).float()
    logits = torch.randint(-3, 4, (num, num_classes), generator=generator).float()
    logits += torch.rand(num, num_classes, generator=generator)  # no ties
    probabilities = logits.softmax(1)
    found = choose_one_class_each(
        probabilities.numpy(), boxes.numpy(), threshold=threshold, fewest=fewest, most=most
    )
    pairs = list(zip(found.proposals.tolist(), found.class_ids.tolist(), strict=True))
    assert pairs == one_class_each_literally(probabilities, boxes, threshold, fewest, most)


def test_filter_1_settles_ties_by_proposal_then_class() -> None:
    rows = np.array([[0.0, 0.5, 0.5], [0.0, 0.5, 0.5]], dtype=np.float32)
    boxes = np.array([[[0, 0, 9, 9]], [[0, 0, 9, 9]]], dtype=np.float32)
    found = choose_one_class_each(rows, boxes, threshold=0.2, fewest=0, most=9)
    assert found.proposals.tolist() == [0]
    assert found.class_ids.tolist() == [1]


def test_filter_0_goes_class_by_class_and_may_name_a_box_twice() -> None:
    kept = keep([[0.1, 0.3, 0.6], [0.1, 0.5, 0.4]], filter=0)
    assert kept.class_ids.tolist() == [1, 1, 2, 2]
    assert kept.proposals.tolist() == [1, 0, 0, 1]


def test_filter_0_keeps_all_that_tie_with_the_last() -> None:
    rows = [[0.4, 0.6], [0.5, 0.5], [0.5, 0.5], [0.8, 0.2]]
    assert keep(rows, filter=0, score_threshold=0.1, max_regions=2).proposals.tolist() == [0, 1, 2]


def test_filter_0_halves_its_threshold_ten_times_at_most() -> None:
    rows = [[0.4, 0.6], [0.7, 0.3]]
    assert len(keep(rows, filter=0, score_threshold=0.9, min_regions=2).scores) == 2
    assert len(keep(rows, filter=0, score_threshold=0.9, min_regions=0).scores) == 0
    assert len(keep(rows, filter=0, score_threshold=0.2 * 2**10, min_regions=2).scores) == 2
    assert len(keep(rows, filter=0, score_threshold=3000.0, min_regions=2).scores) == 0


def test_filter_2_needs_a_hundredth_of_the_threshold() -> None:
    rows = [[0.4, 0.6], [0.97, 0.03], [0.9985, 0.0015]]
    kept = keep(rows, filter=2, score_threshold=0.2, min_regions=3)
    assert kept.proposals.tolist() == [0, 1]


def deltas_that_shift(num: int, num_classes: int) -> Tensor:
    """Class c moves the box by c pixels to the right (box width 10, weight 10)."""
    moves = torch.zeros(num, num_classes, 4)
    moves[..., 0] = torch.arange(num_classes)
    return moves.reshape(num, -1)


def test_filter_2_returns_the_box_of_its_own_class_unless_told_to_err() -> None:
    rows = [[0.1, 0.1, 0.8], [0.1, 0.7, 0.2]]
    deltas = deltas_that_shift(2, 3)
    ours = keep(rows, deltas=deltas, filter=2)
    assert ours.boxes[:, 0].tolist() == pytest.approx([2, 21])
    quirk = Compat(filter2_takes_wrong_boxes=True)
    theirs = keep(rows, deltas=deltas, filter=2, compat=quirk)
    assert theirs.boxes[:, 0].tolist() == pytest.approx([0, 1])  # rows 0 and 1 of proposal 0
    assert theirs.class_ids.tolist() == ours.class_ids.tolist() == [2, 1]
    assert theirs.proposals.tolist() == ours.proposals.tolist()


@pytest.mark.parametrize("number", [0, 1])
def test_a_refined_box_is_that_of_the_class(number: int) -> None:
    kept = keep([[0.1, 0.1, 0.8]], deltas=deltas_that_shift(1, 3), filter=number)
    assert kept.boxes[0].tolist() == pytest.approx([2, 0, 11, 9])


def test_one_box_for_all_classes_comes_from_the_last_four_deltas() -> None:
    config = replace(tiny_config(num_classes=3), class_agnostic_boxes=True)
    deltas = torch.tensor([[9.0, 9, 9, 9, 1, 0, 0, 0]])
    rules = RegionRules(filter=1, min_regions=1)
    kept = keep_regions(torch.zeros(1, 3), deltas, APART[:1], SIZE, config, rules, Compat())
    assert torch.equal(kept.boxes, decode(APART[:1], deltas[:, 4:], config.box_weights))


def test_forced_boxes_wholly_outside_are_named_and_clipped() -> None:
    boxes = torch.tensor([[200.0, 10, 220, 30], [0, 0, 9, 9]])
    kept = name_forced_boxes(torch.tensor([[9.0, 1, 2], [0, 2, 1]]), boxes, SIZE)
    assert kept.boxes.tolist() == [[99, 10, 99, 30], [0, 0, 9, 9]]
    assert kept.class_ids.tolist() == [2, 1]
    assert kept.proposals.tolist() == [0, 1]


def test_no_proposals_no_regions() -> None:
    for number in (0, 1, 2):
        kept = keep_regions(
            torch.zeros(0, 6),
            None,
            torch.zeros(0, 4),
            SIZE,
            tiny_config(),
            RegionRules(filter=number),
            Compat(),
        )
        assert kept.boxes.shape == (0, 4)
        assert len(kept.class_ids) == 0


def test_bounds_that_cannot_be_met_are_refused() -> None:
    with pytest.raises(DetectorConfigError, match="max_regions"):
        RegionRules(max_regions=0)
    with pytest.raises(DetectorConfigError, match="num_attributes"):
        DetectorConfig(num_attributes=1)
