import pytest
import torch

from detector.proposals import Proposals, propose
from detector.roi_align import pool_regions


def test_a_wide_region_takes_as_many_samples_as_it_covers_cells() -> None:
    columns = torch.arange(24.0).square().expand(1, 1, 24, 24)
    box = torch.tensor([[0.0, 0, 336, 160]])
    rows = [
        pool_regions(columns, [box], pooled_size=14, stride=16, sampling_ratio=ratio)[0, 0, 0]
        for ratio in (0, 1)
    ]
    assert rows[0][:4].tolist() == pytest.approx([0.875, 5.375, 14.375, 27.875])
    assert rows[1][:4].tolist() == pytest.approx([0.75, 5.25, 14.25, 27.75])


def test_regions_of_the_first_image_come_first() -> None:
    maps = torch.stack((torch.zeros(1, 4, 4), torch.ones(1, 4, 4)))
    box = torch.tensor([[0.0, 0, 31, 31]])
    pooled = pool_regions(maps, [box, box.repeat(2, 1)], pooled_size=2, stride=16, sampling_ratio=0)
    assert pooled[:, 0, 0, 0].tolist() == [0, 1, 1]
    none = torch.zeros(0, 4)
    empty = pool_regions(maps, [none, none], pooled_size=2, stride=16, sampling_ratio=0)
    assert empty.shape == (0, 1, 2, 2)


def proposals_from(anchors: list[list[float]], logits: list[float], **settings: int) -> Proposals:
    """Anchors of one cell each in a row, not moved, in an image of 10 x 20 pixels."""
    defaults = {"pre_nms_top_n": 100, "post_nms_top_n": 100, "nms_overlap": 0.7, "min_size": 0}
    (found,) = propose(
        torch.tensor(logits).view(1, 1, 1, -1),
        torch.zeros(1, 4, 1, len(logits)),
        torch.tensor(anchors),
        [(10, 20)],
        **(defaults | settings),
    )
    return found


def test_equal_boxes_survive_only_without_area() -> None:
    line, square = [5.0, 5, 5, 9], [5.0, 5, 9, 9]
    assert len(proposals_from([line, line], [1.0, 0.0]).boxes) == 2
    assert len(proposals_from([square, square], [1.0, 0.0]).boxes) == 1


def test_boxes_outside_become_borders_and_use_up_places() -> None:
    outside = [90.0, 2, 99, 5]
    found = proposals_from([outside, [0.0, 0, 4, 4], outside], [3.0, 2.0, 1.0], post_nms_top_n=2)
    assert found.boxes.tolist() == [[19, 2, 19, 5], [0, 0, 4, 4]]
    assert found.scores.tolist() == pytest.approx([0.9526, 0.8808], abs=1e-4)


def test_small_boxes_go_only_if_asked() -> None:
    boxes = [[0.0, 0, 1, 8], [0.0, 0, 8, 8]]
    assert len(proposals_from(boxes, [1.0, 0.0], min_size=3).boxes) == 1
    assert len(proposals_from(boxes, [1.0, 0.0], min_size=2).boxes) == 2


def test_only_the_best_anchors_go_on() -> None:
    boxes = [[0.0, 0, 4, 4], [10.0, 0, 14, 4], [5.0, 5, 9, 9]]
    found = proposals_from(boxes, [0.0, 2.0, 1.0], pre_nms_top_n=2)
    assert found.boxes.tolist() == [boxes[1], boxes[2]]
