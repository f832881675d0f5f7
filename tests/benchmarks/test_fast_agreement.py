"""What counts as the same region, and which photos judge which."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.fast_agreement import _agreeing, _divide, agreement
from detector.loaded import LoadedDetector
from storage.published.label_maps import label_map_of
from storage.records import ImageObjects, ImageSource
from tests.builders_detector import decoded, tiny_model
from tests.builders_storage import make_regions


def test_a_region_agrees_if_one_of_its_class_lies_on_it() -> None:
    corners = np.array([[0, 0], [20, 0], [0, 20]], np.float32)
    exact = replace(make_regions(num=3), boxes=np.concatenate([corners, corners + 9], axis=1))
    classes = exact.class_ids.copy()
    classes[1] = classes[1] + 1
    boxes = exact.boxes.copy()
    boxes[2] += 1000
    found = replace(exact, class_ids=classes, boxes=boxes)
    assert _agreeing(exact, exact).all()
    assert _agreeing(exact, found).tolist() == [True, False, False]
    nothing = make_regions(num=0)
    assert _agreeing(exact, nothing).tolist() == [False] * 3
    assert _agreeing(nothing, exact).tolist() == []


def test_the_engine_in_float32_agrees_with_the_exact_one() -> None:
    model = tiny_model()
    config = model.config
    loaded = LoadedDetector(
        model=model,
        label_map=label_map_of(
            [f"thing {number}" for number in range(1, config.num_classes)],
            [f"kind {number}" for number in range(1, config.num_attributes)],
        ),
        fingerprint="toy",
    )
    figures = agreement(loaded, [decoded()], [decoded("toys/2")], [], ["torch-f32", "exact-noise"])
    found = {each.name.removeprefix("fast_agreement."): each.value for each in figures}
    assert found["torch-f32.agreeing"] == 1
    assert found["torch-f32.cosine_least"] > 0.99999
    assert 0.9 < found["exact-noise.cosine_least"] < found["torch-f32.cosine_least"]


def test_photos_with_truth_judge_and_the_others_calibrate() -> None:
    sources = [ImageSource(image_id=f"photos/{n}", path=Path(f"{n}.jpg")) for n in "abc"]
    truth = [
        ImageObjects(
            image_id="coco/b",
            height=9,
            width=9,
            boxes=np.zeros((0, 4), np.float32),
            class_names=(),
            attributes=(),
            is_crowd=np.zeros(0, bool),
            split="test",
            source="toys",
        )
    ]
    judged, others = _divide(sources, truth, 40)
    assert [each.image_id for each in judged] == ["coco/b"]
    assert [each.image_id for each in others] == ["photos/a", "photos/c"]
