from dataclasses import replace
from typing import Any

import pytest
import torch

from detector.config import RegionRules
from detector.preprocess import ModelImages, to_model_images
from detector.see import see
from tests.builders_detector import photo, tiny_model


def batch_of(model: Any, *seeds: int) -> ModelImages:
    return to_model_images([photo(seed=seed) for seed in seeds], model.config)


def test_photos_of_one_size_do_not_disturb_each_other() -> None:
    model = tiny_model()
    together = see(model, batch_of(model, 1, 2))
    for seed, found in zip((1, 2), together, strict=True):
        (alone,) = see(model, batch_of(model, seed))
        assert torch.equal(found.class_ids, alone.class_ids)
        torch.testing.assert_close(found.boxes, alone.boxes)
        torch.testing.assert_close(found.features, alone.features)
        torch.testing.assert_close(
            found.attribute_logits, alone.attribute_logits, rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("regress_boxes", [False, True])
def test_attributes_are_read_where_the_box_came_to_lie(regress_boxes: bool) -> None:
    model = tiny_model()
    images = batch_of(model, 3)
    rules = replace(model.config.regions, regress_boxes=regress_boxes)
    (found,) = see(model, images, rules=rules)
    with torch.no_grad():
        pooled = model.region_features(model.trunk(images.pixels), [found.boxes])
        wanted = model.attribute_head(pooled, found.class_ids)
    torch.testing.assert_close(found.attribute_logits, wanted)
    (quick,) = see(model, images, rules=replace(rules, pool_attributes_again=False))
    same = torch.allclose(quick.attribute_logits, wanted, atol=1e-5)
    assert same != regress_boxes


def test_features_stay_those_of_the_proposals() -> None:
    model = tiny_model()
    images = batch_of(model, 3)
    (plain,) = see(model, images, rules=RegionRules(regress_boxes=False, min_regions=8))
    (moved,) = see(model, images, rules=RegionRules(regress_boxes=True, min_regions=8))
    features = dict(zip(plain.proposals.tolist(), plain.features, strict=True))
    for proposal, feature in zip(moved.proposals.tolist(), moved.features, strict=True):
        if proposal in features:
            assert torch.equal(feature, features[proposal])


@pytest.mark.parametrize("threshold", [2000.0, 0.3])
def test_a_batch_may_find_nothing_in_some_or_all_images(threshold: float) -> None:
    model = tiny_model()
    rules = RegionRules(
        filter=0, score_threshold=threshold, min_regions=0, max_attributes_per_region=4
    )
    blank = torch.full_like(batch_of(model, 1).pixels, -40.0)
    images = batch_of(model, 1)
    pixels = torch.cat((images.pixels, blank))
    both = ModelImages(pixels=pixels, sizes=images.sizes * 2, original_sizes=images.sizes * 2)
    for found in see(model, both, rules=rules):
        number = len(found.scores)
        assert found.boxes.shape == (number, 4)
        assert found.features.shape == (number, model.feature_width)
        assert found.attributes.ids.shape == (number, 4)
        assert found.attribute_logits.shape == (number, model.config.num_attributes)
        if threshold > 1:
            assert number == 0


def test_given_boxes_outside_the_image_are_seen_as_given_and_clipped_after() -> None:
    model = tiny_model()
    images = batch_of(model, 1)
    boxes = torch.tensor([[-30.0, -30, 20, 20], [500, 500, 600, 600]])
    (found,) = see(model, images, forced_boxes=[boxes])
    height, width = images.sizes[0]
    assert found.boxes.tolist() == [
        [0, 0, 20, 20],
        [width - 1, height - 1, width - 1, height - 1],
    ]
    with torch.no_grad():
        wanted = model.region_features(model.trunk(images.pixels), [boxes])
    torch.testing.assert_close(found.features, wanted)
