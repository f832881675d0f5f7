"""VinVL's figures of a detector on a few true boxes."""

from dataclasses import replace

import numpy as np
import pytest

from detector.constants import STAND_IN_ATTRIBUTE
from detector.visual_genome import attribute_figures, class_figures, name_true_boxes
from storage.published.label_maps import label_map_of
from storage.records import ImageRegions
from tests.builders_detector import decoded, tiny_model
from tests.builders_scenes import block_objects

LABELS = label_map_of(
    ["bar", "box", "cat", "dog", "cow"], [f"look {n}" for n in range(6)] + ["red", "blue"]
)
RED, BLUE = 7, 8
SHOWN = block_objects("blocks/1", [(0, 0, 30, 9), (2, 20, 12, 40)])  # a red bar, a blue box


def found(boxes: list, class_ids: list[int], attributes: list[list[int]], image_id="blocks/1"):
    """Regions by falling confidence; attributes with falling scores."""
    num = len(boxes)
    ids = np.array(attributes, dtype=np.int16).reshape(num, -1)
    scores = np.where(ids > 0, 0.9 - 0.1 * np.arange(ids.shape[1]), 0).astype(np.float32)
    return ImageRegions(
        image_id=image_id,
        content_hash="0" * 64,
        height=48,
        width=64,
        boxes=np.array(boxes, dtype=np.float32).reshape(num, 4),
        features=np.zeros((num, 2), dtype=np.float16),
        class_ids=np.array(class_ids, dtype=np.int16),
        confidences=np.linspace(0.9, 0.5, num, dtype=np.float32),
        attribute_ids=ids,
        attribute_scores=scores,
        class_names=tuple(LABELS.class_names[each] for each in class_ids),
        attribute_names=tuple(
            tuple(LABELS.attribute_names[each] for each in row if each) for row in ids.tolist()
        ),
    )


def test_classes_without_boxes_count_in_the_plain_mean_alone() -> None:
    regions = found(SHOWN.boxes.tolist(), [1, 3], [[RED], [BLUE]])
    figures = class_figures([regions], [SHOWN], LABELS)
    assert figures["vg_map50"] == pytest.approx(1 / 5)
    assert figures["vg_weighted_map50"] == pytest.approx(1 / 2)


def test_an_attribute_counts_whatever_the_class_is_called() -> None:
    named = found(SHOWN.boxes.tolist(), [4, 4], [[RED, 0], [RED, BLUE]])
    figures = attribute_figures([named], [SHOWN], LABELS)
    # red: right at 0.9, then wrong at 0.9; blue: right
    assert figures["vg_attribute_map50"] == pytest.approx(2 / 8)
    assert figures["vg_attribute_weighted_map50"] == pytest.approx(1.0)
    plain = replace(LABELS, attribute_names=(LABELS.attribute_names[0], STAND_IN_ATTRIBUTE))
    assert attribute_figures([named], [SHOWN], plain) == {}


def test_true_boxes_are_named_and_stay_where_they_are() -> None:
    regions = name_true_boxes(tiny_model(), decoded("blocks/1"), SHOWN, LABELS)
    order = np.argsort(regions.boxes[:, 1])
    assert regions.boxes[order] == pytest.approx(SHOWN.boxes, abs=1e-3)
    assert all(name in LABELS.class_names[1:] for name in regions.class_names)
