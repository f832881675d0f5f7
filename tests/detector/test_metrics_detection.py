"""COCO numbers and Visual Genome AP by small worked cases."""

from typing import Any

import numpy as np
import pytest

from detector.metrics import (
    DetectionInputError,
    FoundBoxes,
    TrueBoxes,
    coco_detection_scores,
    visual_genome_scores,
)

TRUTH: Any = {
    "images": [{"id": 1, "width": 100, "height": 100}],
    "categories": [{"id": 3, "name": "bus"}],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 3,
            "bbox": [10, 10, 40, 40],
            "area": 1600,
            "iscrowd": 0,
        }
    ],
}


def detection(**changes: Any) -> dict[str, Any]:
    return {"image_id": 1, "category_id": 3, "bbox": [10, 10, 40, 40], "score": 0.9} | changes


def boxes_of(rows: list[list[float]]) -> Any:
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def truth_of(rows: list[list[float]], labels: list[int]) -> TrueBoxes:
    return TrueBoxes(
        boxes=boxes_of(rows),
        labels=np.array(labels, dtype=np.int64),
        attributes=np.array([[2, 0]] * len(rows), dtype=np.int64).reshape(len(rows), 2),
    )


def found_of(rows: list[list[float]], labels: list[int], scores: list[float]) -> FoundBoxes:
    return FoundBoxes(
        boxes=boxes_of(rows),
        labels=np.array(labels, dtype=np.int64),
        scores=np.array(scores, dtype=np.float64),
        attribute_labels=np.array([[2, 1]] * len(rows), dtype=np.int64).reshape(len(rows), 2),
        attribute_scores=np.array([[0.7, 0.0]] * len(rows)).reshape(len(rows), 2),
    )


def test_a_perfect_box_and_no_box() -> None:
    perfect = coco_detection_scores(TRUTH, [detection()])
    assert perfect.statistics["ap"] == pytest.approx(1)
    assert perfect.statistics["ap_small"] == -1.0
    assert perfect.ap50_by_category == {3: pytest.approx(1)}
    assert perfect.recall_by_category[3] == (1.0,) * 10
    nothing = coco_detection_scores(TRUTH, [])
    assert nothing.statistics["ap"] == nothing.statistics["ar_100"] == 0.0
    assert nothing.statistics["ap_small"] == -1.0


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    coco_detection_scores(TRUTH, [detection()])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("truth", "rows", "said"),
    [
        (TRUTH, [detection(image_id="1")], "unknown image '1'"),
        (TRUTH, [{"image_id": 1}], "detection 0: needs"),
        (TRUTH, [detection(bbox=[1, 2, 3])], "detection 0: bbox needs 4"),
        ({"images": [], "annotations": []}, [], "'categories' is missing"),
    ],
)
def test_detections_are_checked(truth: Any, rows: Any, said: str) -> None:
    with pytest.raises(DetectionInputError, match=said):
        coco_detection_scores(truth, rows)


def test_the_second_box_on_an_object_is_false() -> None:
    box = [10.0, 10.0, 49.0, 49.0]
    scores = visual_genome_scores(
        [truth_of([box, [60, 60, 80, 80]], [1, 1])],
        [found_of([box, box, [60, 60, 80, 80]], [1, 1, 1], [0.9, 0.8, 0.7])],
        ["__background__", "bus", "cat"],
    )
    assert scores.ap == {"bus": pytest.approx(0.5 + 0.5 * 2 / 3), "cat": 0.0}
    assert scores.num_true == {"bus": 2, "cat": 0}
    assert scores.mean_ap == pytest.approx(scores.ap["bus"] / 2)
    assert scores.weighted_ap == pytest.approx(scores.ap["bus"])


def test_an_image_without_detections_is_left_out_with_its_truth() -> None:
    box = [10.0, 10.0, 49.0, 49.0]
    scores = visual_genome_scores(
        [truth_of([box], [1]), truth_of([box], [1])],
        [found_of([box], [1], [0.9]), found_of([], [], [])],
        ["__background__", "bus"],
    )
    assert scores.num_true == {"bus": 1}
    assert scores.mean_ap == pytest.approx(1)


def test_attributes_ignore_the_object_label() -> None:
    box = [10.0, 10.0, 49.0, 49.0]
    scores = visual_genome_scores(
        [truth_of([box], [1])],
        [found_of([box], [7], [0.9])],
        ["__no_attribute__", "big", "red"],
        of_attributes=True,
    )
    assert scores.ap == {"big": 0.0, "red": pytest.approx(1)}


def test_nothing_to_score_is_refused() -> None:
    with pytest.raises(DetectionInputError, match="1 images with true boxes, 0 with found"):
        visual_genome_scores([truth_of([], [])], [], ["__background__", "bus"])
    with pytest.raises(DetectionInputError, match="no class"):
        visual_genome_scores([], [], ["__background__"])
    assert visual_genome_scores([], [], ["bus"]).weighted_ap == 0.0
