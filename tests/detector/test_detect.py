import pytest
import torch

from detector.attributes import KeptAttributes
from detector.constants import STAND_IN_ATTRIBUTE
from detector.detect import regions_of
from detector.see import Detections
from detector.training.photos import label_map_from
from storage.published.label_maps import LabelMap, label_map_of
from storage.records import ImageRegions


def told(label_map: LabelMap) -> ImageRegions:
    """One region of class 1 with attribute 1, by these names."""
    found = Detections(
        boxes=torch.tensor([[1.0, 2.0, 5.0, 6.0]]),
        class_ids=torch.tensor([1]),
        scores=torch.tensor([0.9]),
        proposals=torch.tensor([0]),
        features=torch.zeros(1, 4),
        attribute_logits=torch.zeros(1, 2),
        attributes=KeptAttributes(ids=torch.tensor([[1, 0]]), scores=torch.tensor([[0.8, 0.0]])),
    )
    return regions_of(
        found,
        image_id="a",
        content_hash="0",
        size=(10, 10),
        original_size=(10, 20),
        label_map=label_map,
    )


def test_regions_carry_names_and_original_pixels() -> None:
    regions = told(label_map_of(["car"], ["red"]))
    assert regions.attribute_names == (("red",),)
    assert regions.attribute_scores[0].tolist() == pytest.approx([0.8, 0.0])
    assert regions.boxes.tolist() == [[2.0, 2.0, 10.0, 6.0]]


def test_a_detector_without_attributes_tells_none() -> None:
    label_map = label_map_from([])
    assert STAND_IN_ATTRIBUTE in label_map.attribute_names
    regions = told(label_map_of(["car"], [STAND_IN_ATTRIBUTE]))
    assert regions.class_names == ("car",)
    assert regions.attribute_names == ((),)
    assert regions.attribute_ids.tolist() == [[0, 0]]
    assert regions.attribute_scores.tolist() == [[0.0, 0.0]]
