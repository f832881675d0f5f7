"""One training step of the detector against the recorded ones of `detector_cases`."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Generator, Tensor

from detector.anchors import visible_anchors
from detector.model import AttributeRCNN
from detector.published.checkpoint_names import (
    from_published,
    to_published,
)
from detector.published.yaml_keys import config_from_settings
from detector.training.objective import RPN_WEIGHTS, detection_outcome
from detector.training.published_settings import training_from_settings
from detector.training.targets import Truth, deltas_to_truth, match_anchors
from detector.training.train import hold_still
from detector.weights import load_weights
from tests.oracle.detector_cases import (
    FOLDER,
    PIXELS,
    VALUES,
    agree,
    images_of,
    listed,
    model_of,
    same,
    weights_of,
)

pytestmark = pytest.mark.oracle
PUBLISHED_LOSSES = {
    "objectness": "loss_objectness",
    "proposal_box": "loss_rpn_box_reg",
    "classifier": "loss_classifier",
    "box": "loss_box_reg",
    "attribute": "loss_attribute",
}


@cache
def training_case(network: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    recorded = load_file(FOLDER / f"{network}.train.safetensors")
    return json.loads((FOLDER / f"{network}.train.json").read_text()), recorded


def truth_of(recorded: Mapping[str, Tensor], number: int) -> Truth:
    return Truth(
        boxes=recorded[f"target{number}.boxes"],
        class_ids=recorded[f"target{number}.labels"],
        attributes=recorded[f"target{number}.attributes"],
    )


def whole_sample(purpose: str, image: int) -> Generator:
    return Generator().manual_seed(0)  # every candidate fits into the sample


TRAINED = sorted(path.name.removesuffix(".train.json") for path in FOLDER.glob("*.train.json"))


@pytest.mark.parametrize("network", listed(TRAINED) if TRAINED or not FOLDER.is_dir() else [])
def test_what_anchors_are_to_learn(network: str) -> None:
    entry, recorded = training_case(network)
    training = training_from_settings(entry["config"])
    num = sum(name.startswith("rpn_labels") for name in recorded)
    model, images = model_of(network), images_of(network, *range(num))
    assert list(images.pixels.shape[2:]) == entry["padded_hw"]
    with torch.no_grad():
        anchors = model.anchors(model.trunk(images.pixels))
    for number, size in enumerate(images.sizes):
        truth = truth_of(recorded, number)
        matches = match_anchors(
            anchors,
            visible_anchors(anchors, *size),
            truth.boxes,
            foreground_overlap=training.anchor_foreground_overlap,
            background_overlap=training.anchor_background_overlap,
        )
        same(matches.labels.to(torch.int8), recorded[f"rpn_labels{number}"], "rpn_labels")
        positive = torch.nonzero(matches.labels > 0).flatten()
        same(positive, recorded[f"rpn_pos_index{number}"], "rpn_pos_index")
        targets = deltas_to_truth(
            anchors[positive], truth.boxes, matches.matched[positive], RPN_WEIGHTS
        )
        agree(targets, recorded[f"rpn_pos_targets{number}"], VALUES, "rpn_pos_targets")


@pytest.mark.parametrize("network", listed(TRAINED) if TRAINED or not FOLDER.is_dir() else [])
def test_one_training_step_losses_and_gradients(network: str) -> None:
    entry, recorded = training_case(network)
    training = training_from_settings(entry["config"])
    num = sum(name.startswith("rpn_labels") for name in recorded)
    images = images_of(network, *range(num))
    model = AttributeRCNN(config_from_settings(entry["config"]))
    load_weights(model, from_published(weights_of(network), model.cell_anchors), network)
    hold_still(model, training)
    outcome = detection_outcome(
        model,
        model.trunk(images.pixels),
        images.sizes,
        [truth_of(recorded, number) for number in range(num)],
        training,
        whole_sample,
    )
    for number, sample in enumerate(outcome.samples):
        agree(sample.boxes, recorded[f"proposals{number}"], PIXELS, "proposals")
        same(sample.class_ids, recorded[f"box_labels{number}"], "box_labels")
        positive = sample.class_ids > 0
        wanted = recorded[f"box_targets{number}"][positive]
        agree(sample.deltas[positive], wanted, VALUES, "box_targets")
    agree(outcome.class_logits, recorded["class_logits"], VALUES, "class_logits")
    agree(outcome.attribute_logits, recorded["attr_logits"], VALUES, "attr_logits")
    parts = {PUBLISHED_LOSSES[name]: part for name, part in outcome.losses.parts().items()}
    found = {name: part.item() for name, part in parts.items()}
    assert found == pytest.approx(entry["losses"], rel=1e-4, abs=1e-5)
    assert outcome.losses.total.item() == pytest.approx(entry["total"], rel=1e-4)
    outcome.losses.total.backward()
    gradients = published_gradients(model)
    for name in entry["trainable"]:
        norm = gradients[name].norm().item()
        assert norm == pytest.approx(entry["grad_l2"][name], rel=2e-3, abs=2e-3), name
    assert not set(entry["frozen"]) & set(gradients)
    for name, wanted in recorded.items():
        if name.startswith("grad."):
            agree(gradients[name.removeprefix("grad.")], wanted, VALUES, name)


def published_gradients(model: AttributeRCNN) -> dict[str, Tensor]:
    """Gradients under the published names; those of parts that are held still are left out."""
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    known = {name: grad for name, grad in gradients.items() if grad is not None}
    filled = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    places = to_published(filled | known, model.cell_anchors)
    still = to_published(
        {name: torch.full_like(tensor, float(name in known)) for name, tensor in filled.items()},
        model.cell_anchors,
    )
    return {name: grad for name, grad in places.items() if still[name].any()}
