"""The table of differences, on stages that a model of ours stands in for."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmarks.reference.comparison import REFINED, REGIONS, Difference, differences
from benchmarks.reference.table import table_of
from detector.config import RegionRules
from detector.model import AttributeRCNN
from detector.preprocess import to_model_images
from detector.see import search, see
from tests.builders_detector import photo, tiny_model

RULES = RegionRules(min_regions=3, max_regions=8, max_attributes_per_region=4)


@torch.inference_mode()
def stages(model: AttributeRCNN) -> dict[str, Tensor]:
    """What another program with the same weights would give."""
    images = to_model_images([photo()], model.config)
    c4 = model.trunk(images.pixels)
    [boxes] = search(model, c4, images.sizes)
    features = model.region_features(c4, [boxes])
    logits, deltas = model.rpn_head(c4)
    told = {
        "input": images.pixels[0],
        "c4": c4[0],
        "rpn_logits": logits[0],
        "rpn_deltas": deltas[0],
        "proposals": boxes,
        "features": features,
        "class_logits": model.class_logits(features),
        "box_deltas": model.box_deltas(features),
    }
    for head, is_refined in (("", False), (REFINED, True)):
        [found] = see(model, images, rules=replace(RULES, regress_boxes=is_refined))
        kept = (found.boxes, found.class_ids, found.scores, found.features)
        attributes = (found.attribute_logits, found.attributes.ids, found.attributes.scores)
        told |= {
            f"{head}{name}": tensor.clone()
            for name, tensor in zip(REGIONS, (*kept, *attributes), strict=True)
        }
    return told


def changeable(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in theirs.items()}


def rows(theirs: dict[str, Tensor]) -> dict[str, Difference]:
    found = differences(tiny_model(), photo(), theirs, RULES)
    return {row.stage: row for row in found}


def test_a_program_that_computes_the_same_differs_nowhere() -> None:
    found = rows(stages(tiny_model()))
    assert {name: row.largest for name, row in found.items() if row.largest} == {}
    assert found["proposals [px]"].note == "12 of 12 found, 12 in their place"
    assert found["end to end, refined: boxes [px]"].note.startswith("8 of 8 found, 8 in")


def test_stages_that_the_program_does_not_have_are_left_out() -> None:
    theirs = stages(tiny_model())
    fewer = {name: tensor for name, tensor in theirs.items() if not name.startswith(REFINED)}
    assert "end to end, refined: boxes [px]" not in rows(fewer)


def test_the_largest_difference_and_exchanged_places_are_told() -> None:
    theirs = changeable(stages(tiny_model()))
    theirs["c4"][3, 1, 1] += 0.5
    theirs["proposals"] = theirs["proposals"].roll(1, dims=0)
    theirs["scores"][2] += 0.25
    theirs["labels"][0] = 99
    found = rows(theirs)
    assert found["c4"].largest == pytest.approx(0.5)
    assert found["proposals [px]"].note == "12 of 12 found, 0 in their place"
    assert found["end to end: boxes [px]"].note == "7 of 8 found, 7 in their place"


def test_a_table_has_a_column_for_each_engine() -> None:
    row = Difference(stage="  scores", largest=0.00123, scale=0.9, note="3 of 3 found")
    table = table_of({"textbook": [row], "exact": [replace(row, largest=None)]})
    assert table.splitlines()[0] == "| stage | largest value | textbook | exact | |"
    assert table.splitlines()[2] == "| scores | 0.9 | 0.0012 | - | 3 of 3 found |"
