from pathlib import Path

import pytest
import torch

from benchmarks.detectron2_difference import compared, main, ratio_by_ratio
from detector.published.checkpoint_names import to_published
from detector.published.detectron2_names import to_detectron2
from tests.builders_detector import tiny_model


def test_a_row_tells_the_largest_difference_or_how_many_differ() -> None:
    row = compared("photo", "stage", torch.tensor([1.0, -4.0]), torch.tensor([1.5, -4.0]))
    assert (row.difference, row.largest) == (0.5, 4.0)
    row = compared("photo", "stage", torch.tensor([3, 1, 2]), torch.tensor([3, 2, 1]))
    assert (row.difference, row.largest) == (2, 3)


def test_stages_of_another_shape_are_no_row() -> None:
    with pytest.raises(AssertionError, match="stage"):
        compared("photo", "stage", torch.zeros(2), torch.zeros(3))


def test_maps_of_detectron2_come_into_our_order() -> None:
    model = tiny_model()
    published = to_published(model.state_dict(), model.cell_anchors)
    foreign = to_detectron2(published, num_ratios=3)
    name = "proposal_generator.rpn_head.anchor_deltas.weight"
    assert torch.equal(ratio_by_ratio(model, foreign[name], 4), model.rpn_head.deltas.weight)


def test_without_its_source_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "nothing")
    assert main(["--detectron2", missing, "--photo", "photo.jpg"]) == 2
    assert "no folder of detectron2" in capsys.readouterr().err
