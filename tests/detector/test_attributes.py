import pytest
import torch
from torch import Tensor

from detector.attributes import KeptAttributes, keep_attributes
from detector.compat import Compat
from detector.config import RegionRules


def keep(
    probabilities: list[list[float]], compat: Compat | None = None, **rules: float
) -> KeptAttributes:
    settings = {"max_attributes_per_region": 3} | rules
    logits: Tensor = torch.tensor(probabilities).log()
    return keep_attributes(logits, RegionRules(**settings), compat or Compat())


def test_the_best_come_first_and_no_attribute_never_comes() -> None:
    kept = keep([[0.5, 0.1, 0.3, 0.06, 0.04]])
    assert kept.ids.tolist() == [[2, 1, 3]]
    assert kept.scores[0].tolist() == pytest.approx([0.3, 0.1, 0.06])


def test_an_empty_slot_holds_no_id() -> None:
    kept = keep([[0.5, 0.46, 0.04, 0.0]])
    assert kept.ids.tolist() == [[1, 0, 0]]
    assert kept.scores[0, 1:].tolist() == [0, 0]


def test_a_score_that_equals_the_threshold_does_not_count() -> None:
    threshold = float(torch.tensor([[0.75, 0.25]]).log().softmax(1)[0, 1])
    rules = {"max_attributes_per_region": 1}
    assert keep([[0.75, 0.25]], attribute_threshold=threshold, **rules).ids.tolist() == [[0]]
    below = threshold - 1e-6
    assert keep([[0.75, 0.25]], attribute_threshold=below, **rules).ids.tolist() == [[1]]


def test_the_most_of_an_image_are_its_best() -> None:
    rows = [[0.1, 0.5, 0.3, 0.1], [0.1, 0.2, 0.6, 0.1]]
    kept = keep(rows, max_attributes_per_image=3)
    assert kept.ids.tolist() == [[1, 2, 0], [2, 0, 0]]


def test_the_original_counts_zeros_when_it_cuts() -> None:
    rows = [[0.1, 0.5, 0.3, 0.1], [0.1, 0.2, 0.6, 0.1]]
    quirk = Compat(attribute_cap_counts_zeros=True)
    # 6 entries and 2 zeros: of 5 allowed it cuts at the 2nd smallest of all 8, which is a zero
    assert int((keep(rows, quirk, max_attributes_per_image=5).scores > 0).sum()) == 6
    assert int((keep(rows, max_attributes_per_image=5).scores > 0).sum()) == 5
    # of 2 allowed it cuts at the 5th smallest, and 2 more than allowed remain
    assert int((keep(rows, quirk, max_attributes_per_image=2).scores > 0).sum()) == 4


def test_there_may_be_more_slots_than_attributes() -> None:
    kept = keep([[0.5, 0.1, 0.4]], max_attributes_per_region=5)
    assert kept.ids.tolist() == [[2, 1, 0, 0, 0]]


def test_no_region_no_attribute() -> None:
    rules = RegionRules(max_attributes_per_region=4, max_attributes_per_image=2)
    kept = keep_attributes(torch.zeros(0, 9), rules, Compat())
    assert kept.ids.shape == kept.scores.shape == (0, 4)
