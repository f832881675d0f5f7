import pytest
import torch

from detector.training.targets import (
    IGNORED,
    NEGATIVE,
    POSITIVE,
    Truth,
    attribute_targets,
    deltas_to_truth,
    match_anchors,
    match_proposals,
)

LIMITS = {"foreground_overlap": 0.7, "background_overlap": 0.3}
HALF = {"foreground_overlap": 0.5, "background_overlap": 0.5}


def boxes(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def seen(number: int) -> torch.Tensor:
    return torch.ones(number, dtype=torch.bool)


def truth(*rows: list[float], class_ids: list[int]) -> Truth:
    return Truth(
        boxes=boxes(*rows),
        class_ids=torch.tensor(class_ids),
        attributes=torch.zeros(len(rows), 2, dtype=torch.int64),
    )


def test_an_anchor_is_positive_by_its_overlap_alone() -> None:
    anchors = boxes([0, 0, 9, 9], [0, 0, 9, 8], [40, 40, 49, 49])
    matches = match_anchors(anchors, seen(3), boxes([0, 0, 9, 9]), **LIMITS)
    assert matches.labels.tolist() == [POSITIVE, POSITIVE, NEGATIVE]


def test_between_the_thresholds_an_anchor_is_ignored() -> None:
    anchors = boxes([0, 0, 9, 9], [0, 0, 9, 4])
    matches = match_anchors(anchors, seen(2), boxes([0, 0, 9, 9]), **LIMITS)
    assert matches.labels.tolist() == [POSITIVE, IGNORED]


def test_the_best_anchor_of_a_true_box_is_positive_ties_included() -> None:
    anchors = boxes([0, 0, 9, 3], [0, 6, 9, 9], [0, 0, 9, 2])
    matches = match_anchors(anchors, seen(3), boxes([0, 0, 9, 9]), **LIMITS)
    assert matches.labels.tolist() == [POSITIVE, POSITIVE, IGNORED]


def test_a_low_quality_match_goes_for_the_anchors_own_best_box() -> None:
    # The second true box has its best anchor in the one that lies exactly on the first.
    anchors = boxes([0, 0, 9, 9], [60, 60, 69, 69])
    true_boxes = boxes([0, 0, 9, 9], [0, 5, 9, 24])
    matches = match_anchors(anchors, seen(2), true_boxes, **LIMITS)
    assert matches.labels.tolist() == [POSITIVE, NEGATIVE]
    assert matches.matched[0] == 0


def test_an_invisible_anchor_is_ignored_even_as_the_best_of_its_box() -> None:
    visible = torch.tensor([False, True])
    anchors = boxes([-1, 0, 9, 9], [50, 50, 59, 59])
    matches = match_anchors(anchors, visible, boxes([0, 0, 9, 9]), **LIMITS)
    assert matches.labels.tolist() == [IGNORED, NEGATIVE]


def test_without_true_boxes_all_that_is_visible_is_background() -> None:
    visible = torch.tensor([False, True])
    matches = match_anchors(boxes([0, 0, 1, 1], [2, 2, 5, 5]), visible, boxes(), **LIMITS)
    assert matches.labels.tolist() == [IGNORED, NEGATIVE]
    none = truth(class_ids=[])
    assert match_proposals(boxes([0, 0, 4, 4]), none, **HALF).labels.tolist() == [NEGATIVE]
    moved = deltas_to_truth(boxes([0, 0, 4, 4]), boxes(), torch.zeros(1).long(), (1, 1, 1, 1))
    assert moved.tolist() == [[0, 0, 0, 0]]


def test_a_proposal_takes_the_class_of_its_best_box() -> None:
    proposals = boxes([0, 0, 9, 4], [0, 0, 9, 3], [20, 20, 29, 29])
    matches = match_proposals(
        proposals, truth([0, 0, 9, 9], [20, 20, 29, 29], class_ids=[4, 7]), **HALF
    )
    assert matches.labels.tolist() == [4, 0, 7]


def test_deltas_lead_from_the_box_to_its_true_box() -> None:
    moved = deltas_to_truth(
        boxes([0, 0, 9, 9]), boxes([5, 0, 24, 9]), torch.tensor([0]), (10.0, 10.0, 5.0, 5.0)
    )
    assert moved[0].tolist() == pytest.approx([10.0, 0.0, 5 * 0.6931472, 0.0])


def test_attributes_share_one_unit() -> None:
    targets = attribute_targets(torch.tensor([[3, 1, 0, 0], [0, 0, 0, 0]]), 5)
    assert targets.tolist() == [[0, 0.5, 0, 0.5, 0], [0, 0, 0, 0, 0]]


def test_mirroring_twice_gives_the_same_boxes() -> None:
    objects = truth([2, 3, 7, 9], class_ids=[1])
    assert objects.flipped(20).boxes.tolist() == [[12, 3, 17, 9]]
    assert torch.equal(objects.flipped(20).flipped(20).boxes, objects.boxes)
