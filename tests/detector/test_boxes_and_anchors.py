import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detector.anchors import anchors_on_map, cell_anchors, visible_anchors
from detector.boxes import clip, decode, encode, overlap
from detector.config import DetectorConfig

PUBLISHED = DetectorConfig()
BOX = st.tuples(*[st.floats(0, 400, width=32)] * 2, *[st.floats(0, 300, width=32)] * 2).map(
    lambda row: [row[0], row[1], row[0] + row[2], row[1] + row[3]]
)


def test_the_growth_of_a_box_is_capped_after_the_weights() -> None:
    box = torch.tensor([[0.0, 0, 15, 15]])
    moved = decode(box, torch.tensor([[0.0, 0, 10, -1]]), (1, 1, 1, 1))
    assert moved[0].tolist() == pytest.approx([-492, 5.0570, 507, 9.9430], abs=1e-3)
    moved = decode(box, torch.tensor([[0.0, 0, 5, -5]]), (10, 10, 5, 5))
    assert moved[0, 2] - moved[0, 0] + 1 == pytest.approx(16 * 2.718282, rel=1e-5)


@given(box=BOX, target=BOX)
def test_decoding_undoes_encoding(box: list[float], target: list[float]) -> None:
    weights = (10.0, 10.0, 5.0, 5.0)
    boxes, targets = (torch.tensor([row], dtype=torch.float64) for row in (box, target))
    sides, wanted = (b[:, 2:] - b[:, :2] + 1 for b in (boxes, targets))
    if bool((wanted / sides < 60).all()):
        moved = decode(boxes, encode(boxes, targets, weights), weights)
        torch.testing.assert_close(moved, targets, rtol=1e-9, atol=1e-6)


def test_clipping_keeps_boxes_outside_as_borders_without_area() -> None:
    boxes = torch.tensor([[-9.0, 2, 5, 99], [40, 50, 60, 70], [3, 4, 5, 6]])
    assert clip(boxes, 20, 30).tolist() == [[0, 2, 5, 19], [29, 19, 29, 19], [3, 4, 5, 6]]


def test_overlap_counts_both_ends_of_a_side() -> None:
    first = torch.tensor([[0.0, 0, 9, 9]])
    second = torch.tensor([[0.0, 0, 9, 4], [9, 9, 9, 9], [10, 10, 12, 12]])
    assert overlap(first, second)[0].tolist() == pytest.approx([0.5, 0.01, 0.0])


def test_published_anchors_are_rounded_per_ratio_ratios_outside() -> None:
    anchors = cell_anchors(PUBLISHED.anchor_sizes, PUBLISHED.aspect_ratios, 16)
    sides = (anchors[:, 2:] - anchors[:, :2] + 1).tolist()
    assert anchors[0].tolist() == [-15, -4, 30, 19]
    assert sides[0] == [46, 24]
    assert sides[5] == [32, 32]
    assert sides[10] == [22, 44]
    assert sides[4] == [23 * 32, 12 * 32]


def test_anchors_of_a_map_run_over_rows_then_columns_then_anchors() -> None:
    cell = cell_anchors((16, 32), (1.0,), 16)
    anchors = anchors_on_map(cell, 2, 3, 16)
    assert anchors.shape == (12, 4)
    assert torch.equal(anchors[2], cell[0] + torch.tensor([16, 0, 16, 0]))
    assert torch.equal(anchors[7], cell[1] + torch.tensor([0, 16, 0, 16]))


def test_an_anchor_that_touches_the_size_is_not_visible() -> None:
    anchors = torch.tensor([[0.0, 0, 9, 9], [0, 0, 10, 9], [-1, 0, 5, 5], [0, 0, 9, 8.5]])
    assert visible_anchors(anchors, 10, 10).tolist() == [True, False, False, True]
