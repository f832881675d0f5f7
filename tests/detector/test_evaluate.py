import numpy as np
import pytest

from detector.errors import DetectorError
from detector.evaluate import evaluate_detector, match_objects, score_attributes, score_boxes
from storage.records import ImageObjects, ImageRegions

FAMILIES = {"colour": ("red", "blue"), "size": ("small", "large")}


def regions(
    *rows: tuple[list[float], str, float, tuple[str, ...]], image_id: str = "a"
) -> ImageRegions:
    num = len(rows)
    return ImageRegions(
        image_id=image_id,
        content_hash="",
        height=100,
        width=100,
        boxes=np.array([row[0] for row in rows], np.float32).reshape(num, 4),
        features=np.zeros((num, 2), np.float16),
        class_ids=np.ones(num, np.int16),
        confidences=np.array([row[2] for row in rows], np.float32),
        attribute_ids=np.zeros((num, 2), np.int16),
        attribute_scores=np.zeros((num, 2), np.float32),
        class_names=tuple(row[1] for row in rows),
        attribute_names=tuple(row[3] for row in rows),
    )


def objects(
    *rows: tuple[list[float], str, tuple[str, ...]],
    image_id: str = "a",
    crowd: tuple[int, ...] = (),
) -> ImageObjects:
    return ImageObjects(
        image_id=image_id,
        height=100,
        width=100,
        boxes=np.array([row[0] for row in rows], np.float32).reshape(len(rows), 4),
        class_names=tuple(row[1] for row in rows),
        attributes=tuple(row[2] for row in rows),
        is_crowd=np.array([i in crowd for i in range(len(rows))], bool),
        split="test",
        source="test",
    )


LEFT = [0.0, 0.0, 19.0, 19.0]
RIGHT = [50.0, 50.0, 79.0, 79.0]


def test_perfect_detections_score_one() -> None:
    found = regions((LEFT, "ball", 0.9, ()), (RIGHT, "cup", 0.8, ()))
    scores = score_boxes([found], [objects((LEFT, "ball", ()), (RIGHT, "cup", ()))])
    assert scores.ap50 == pytest.approx(1.0)
    assert scores.map == pytest.approx(1.0)
    assert scores.recall_100 == pytest.approx(1.0)


def test_one_class_missed_halves_the_precision() -> None:
    found = regions((LEFT, "ball", 0.9, ()))
    scores = score_boxes([found], [objects((LEFT, "ball", ()), (RIGHT, "cup", ()))])
    assert scores.ap50 == pytest.approx(0.5)


def test_the_right_box_of_the_wrong_class_counts_nothing() -> None:
    assert score_boxes([regions((LEFT, "cup", 0.9, ()))], [objects((LEFT, "ball", ()))]).ap50 == 0


def test_no_detections_score_zero() -> None:
    truth = [objects((LEFT, "ball", ("red",)))]
    for found in ([], [regions()]):
        scores = evaluate_detector(found, truth, FAMILIES)
        assert scores["ap50"] == scores["map"] == scores["attribute_accuracy"] == 0.0


def test_no_truth_is_an_error() -> None:
    with pytest.raises(DetectorError, match="no true boxes"):
        score_boxes([regions((LEFT, "ball", 0.9, ()))], [objects()])


def test_crowd_boxes_absorb_detections_and_are_not_wanted() -> None:
    truth = objects((LEFT, "ball", ()), (RIGHT, "ball", ()), crowd=(1,))
    found = regions((RIGHT, "ball", 0.9, ()), (LEFT, "ball", 0.5, ()))
    assert score_boxes([found], [truth]).ap50 == pytest.approx(1.0)
    assert match_objects(found, truth) == {0: 1}


def test_scoring_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    score_boxes([regions((LEFT, "ball", 0.9, ()))], [objects((LEFT, "ball", ()))])
    assert capsys.readouterr().out == ""


def test_the_surest_region_takes_the_object() -> None:
    near = [0.0, 0.0, 19.0, 17.0]
    found = regions((LEFT, "ball", 0.5, ()), (near, "ball", 0.9, ()))
    assert match_objects(found, objects((LEFT, "ball", ()))) == {0: 1}


def test_attributes_are_told_apart_by_family() -> None:
    truth = objects((LEFT, "ball", ("red", "small")), (RIGHT, "ball", ("red", "large")))
    found = regions(
        (LEFT, "ball", 0.9, ("small", "red", "blue")), (RIGHT, "ball", 0.8, ("blue", "red"))
    )
    scores = score_attributes([found], [truth], FAMILIES)
    assert scores == {
        "colour_accuracy": 0.5,
        "size_accuracy": 0.5,
        "attribute_accuracy": 0.5,
        "matched": 1.0,
    }


def test_only_matched_objects_with_an_attribute_of_the_family_count() -> None:
    truth = objects((LEFT, "ball", ("red",)), (RIGHT, "cup", ("blue", "large")))
    found = regions((LEFT, "ball", 0.9, ("red",)))
    scores = score_attributes([found], [truth], FAMILIES)
    assert scores["colour_accuracy"] == 1.0
    assert scores["size_accuracy"] == 0.0
    assert scores["matched"] == 0.5
