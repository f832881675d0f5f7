import pytest
import torch
from torch import Generator, Tensor

from detector.training.config import DetectorTraining
from detector.training.objective import Outcome, detection_outcome, sample_regions
from detector.training.targets import Truth
from detector.training.train import hold_still
from tests.builders_detector import tiny_model

TRAINING = DetectorTraining(post_nms_top_n=20, regions_per_image=16, anchors_per_image=32)
WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def truth(*rows: list[float], class_ids: tuple[int, ...] = ()) -> Truth:
    return Truth(
        boxes=torch.tensor(rows, dtype=torch.float32).reshape(-1, 4),
        class_ids=torch.tensor(class_ids or [1] * len(rows), dtype=torch.int64)[: len(rows)],
        attributes=torch.ones(len(rows), 3, dtype=torch.int64),
    )


def seeded(purpose: str, image: int) -> Generator:
    return Generator().manual_seed(len(purpose) + image)


def outcome_of(*truths: Truth, **changes: bool) -> tuple[Outcome, torch.nn.Module]:
    model = tiny_model(**changes)
    hold_still(model, TRAINING)
    pixels = torch.randn(len(truths), 3, 64, 96, generator=Generator().manual_seed(0)) * 50
    sizes = [(64, 96)] * len(truths)
    outcome = detection_outcome(model, model.trunk(pixels), sizes, truths, TRAINING, seeded)
    return outcome, model


def test_positive_regions_are_bounded_and_in_the_order_of_proposals() -> None:
    boxes = torch.tensor([[float(i), 0, 30.0 + i, 30] for i in range(12)])
    shown = truth([0, 0, 30, 30], [60, 0, 70, 30], class_ids=(3, 2))
    training = DetectorTraining(regions_per_image=6, region_positive_fraction=0.5)
    far = torch.tensor([[50.0, 40, 60, 60]] * 5)
    sample = sample_regions(
        torch.cat((boxes, far, shown.boxes)), shown, WEIGHTS, training, seeded("regions", 0)
    )
    assert (sample.class_ids > 0).sum() == 3
    assert len(sample.class_ids) == 6
    places = [row for row in sample.boxes.tolist() if row[0] < 50]
    assert places == sorted(places)


def test_an_image_without_objects_teaches_background_only() -> None:
    outcome, _ = outcome_of(truth())
    assert (outcome.samples[0].class_ids == 0).all()
    assert outcome.losses.box == outcome.losses.attribute == outcome.losses.proposal_box == 0
    assert outcome.losses.classifier > 0
    assert outcome.attribute_logits.shape == (0, 9)


@pytest.mark.parametrize("agnostic", [False, True])
def test_every_trained_weight_gets_a_gradient(agnostic: bool) -> None:
    outcome, model = outcome_of(
        truth([10, 10, 50, 50]), truth([0, 0, 30, 20]), class_agnostic_boxes=agnostic
    )
    outcome.losses.total.backward()
    for name, weight in model.named_parameters():
        assert (weight.grad is not None) == weight.requires_grad, name
    assert not model.trunk.parts()[1].training
    assert model.trunk.parts()[2].training


def test_the_total_is_the_sum_of_the_parts() -> None:
    losses = outcome_of(truth([10, 10, 50, 50]))[0].losses
    parts: dict[str, Tensor] = losses.parts()
    assert losses.total.item() == pytest.approx(sum(part.item() for part in parts.values()))
    assert parts.keys() == {"objectness", "proposal_box", "classifier", "box", "attribute"}


def test_no_gradient_flows_through_the_proposals() -> None:
    outcome, _ = outcome_of(truth([10, 10, 50, 50]))
    assert not outcome.samples[0].boxes.requires_grad
