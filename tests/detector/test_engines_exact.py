from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import nms

from detector.bin_sums import region_shares
from detector.config import preset
from detector.engine import Engine
from detector.engines import prepare
from detector.engines.exact import PackedEngine
from detector.model import AttributeRCNN
from detector.preprocess import to_model_images
from detector.proposals import _best_apart
from detector.roi_align import pool_regions
from detector.see import see
from tests.builders_detector import photo, tiny_model
from tests.detector.test_model import shake


def some_boxes(number: int, seed: int = 0) -> Tensor:
    """(number, 4) in and around an image of 64 x 96, also flipped and without area."""
    corners = torch.rand(number, 4, generator=torch.Generator().manual_seed(seed)) * 160 - 40
    boxes = torch.cat((corners[:, :2], corners[:, :2] + corners[:, 2:] / 2), dim=1)
    boxes[: number // 4, 2:] = boxes[: number // 4, :2]
    return boxes


@given(
    counts=st.lists(st.integers(0, 6), min_size=1, max_size=3),
    pooled_size=st.sampled_from((1, 6, 14)),
    sampling_ratio=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
def test_bins_are_those_of_the_operator(
    counts: list[int], pooled_size: int, sampling_ratio: int, seed: int
) -> None:
    boxes = [some_boxes(count, seed + i) * 4 for i, count in enumerate(counts)]
    c4 = torch.randn(len(counts), 5, 17, 13, generator=torch.Generator().manual_seed(seed))
    how = {"pooled_size": pooled_size, "stride": 16, "sampling_ratio": sampling_ratio}
    wanted = pool_regions(c4, boxes, **how)
    shares = region_shares(boxes, 17, 13, **how)
    rows = c4.permute(0, 2, 3, 1).reshape(-1, 5)
    for step in (1, 2):
        found = shares.bins(0, len(shares), step).of(rows)
        kept = wanted[:, :, ::step, ::step].permute(0, 2, 3, 1).reshape(-1, 5)
        torch.testing.assert_close(found, kept, rtol=1e-5, atol=1e-5)
    part = shares.bins(1, len(shares)).of(rows)
    torch.testing.assert_close(
        part, wanted[1:].permute(0, 2, 3, 1).reshape(-1, 5), rtol=1e-5, atol=1e-5
    )


def test_a_large_region_has_a_grid_of_points_in_each_bin() -> None:
    """The worked example of the oracle's README: a map of x^2, a box of 21 x 10 cells."""
    columns = torch.arange(24.0) ** 2
    rows = columns.repeat(24)[:, None]
    box = torch.tensor([[0.0, 0, 336, 160]])
    shares = region_shares([box], 24, 24, pooled_size=14, stride=16, sampling_ratio=0)
    found = shares.bins(0, 1).of(rows).flatten()[:4]
    torch.testing.assert_close(found, torch.tensor([0.875, 5.375, 14.375, 27.875]))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"stride_in_1x1": True, "res5_dilation": 2},
        {"blocks": (2, 1, 2), "res5_blocks": 3, "norm": "batch"},
        {"groups": 1, "width_per_group": 3, "sampling_ratio": 2},
        {"conventions": "detectron2"},
    ],
)
@pytest.mark.parametrize("num_boxes", [0, 3, 60])
def test_the_exact_engine_computes_what_the_model_computes(
    changes: dict[str, Any], num_boxes: int
) -> None:
    model = tiny_model(**changes)
    shake(model)
    engine = prepare(model)
    assert isinstance(engine, PackedEngine)
    assert engine.describe() == "exact"
    pixels = torch.randn(2, 3, 64, 96) * 30
    boxes = [some_boxes(num_boxes), some_boxes(num_boxes // 2, seed=1)]
    with torch.no_grad():
        for wanted, found in zip(
            parts(model, pixels, boxes), parts(engine, pixels, boxes), strict=True
        ):
            scale = float(wanted.abs().max()) if len(wanted) else 1.0
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * scale)


def parts(engine: Engine, pixels: Tensor, boxes: list[Tensor]) -> list[Tensor]:
    c4 = engine.trunk(pixels)
    features = engine.region_features(c4, boxes)
    class_ids = torch.arange(len(features)) % 3
    return [
        c4,
        *engine.rpn_head(c4),
        engine.anchors(c4),
        features,
        engine.class_logits(features),
        engine.box_deltas(features),
        engine.attribute_logits(features, class_ids),
    ]


def test_bits_depend_on_the_photo_alone() -> None:
    """Not on what was seen before, and not on other sizes that came in between."""
    model = tiny_model()
    engine = prepare(model)
    first = to_model_images([photo(seed=1)], model.config)
    other = to_model_images([photo(height=64, width=48, seed=2)], model.config)
    (wanted,) = see(engine, first)
    see(engine, other)
    for again in (see(engine, first), see(prepare(model), first)):
        assert torch.equal(again[0].features, wanted.features)
        assert torch.equal(again[0].boxes, wanted.boxes)
        assert torch.equal(again[0].attribute_logits, wanted.attribute_logits)


def test_the_model_stays_as_it_is_and_still_learns() -> None:
    model = tiny_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    engine = prepare(model)
    images = to_model_images([photo()], model.config)
    see(engine, images)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    c4 = model.trunk(torch.zeros(1, 3, 64, 64))
    model.region_features(c4, [some_boxes(2)]).sum().backward()
    assert model.res5.blocks[0].conv1.weight.grad is not None


def test_bits_do_not_depend_on_the_number_of_threads() -> None:
    model = tiny_model(res2_width=16, width_per_group=4)
    engine, images = prepare(model), to_model_images([photo()], model.config)
    before, found = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            found += see(engine, images)
    finally:
        torch.set_num_threads(before)
    for field in ("boxes", "scores", "features", "attribute_logits"):
        assert torch.equal(getattr(found[0], field), getattr(found[1], field)), field


def test_float32_on_a_device_is_not_rounded() -> None:
    torch.backends.cudnn.conv.fp32_precision = "tf32"
    prepare(tiny_model(), device="meta")
    assert torch.backends.cudnn.conv.fp32_precision == "ieee"


@pytest.mark.parametrize("filter_number", [0, 1, 2])
@pytest.mark.parametrize("regress", [False, True])
@pytest.mark.parametrize("is_agnostic", [False, True])
def test_no_proposals_make_no_regions(filter_number: Any, regress: bool, is_agnostic: bool) -> None:
    model = tiny_model(proposal_min_size=1000, class_agnostic_boxes=is_agnostic)
    images = to_model_images([photo()], model.config)
    rules = replace(model.config.regions, filter=filter_number, regress_boxes=regress)
    for engine in (model, prepare(model)):
        (found,) = see(engine, images, rules=rules)
        assert found.boxes.shape == (0, 4)
        assert found.features.shape == (0, model.feature_width)
        assert found.attributes.ids.shape == (0, rules.max_attributes_per_region)


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (3, 5)])
def test_the_smallest_photos_are_seen(size: tuple[int, int]) -> None:
    model = tiny_model()
    images = to_model_images([photo(*size)], model.config)
    (wanted,), (found,) = see(model, images), see(prepare(model), images)
    assert found.class_ids.equal(wanted.class_ids)
    torch.testing.assert_close(found.features, wanted.features, rtol=1e-3, atol=1e-4)


def test_another_trunk_is_folded() -> None:
    model = AttributeRCNN(replace(preset("lite0"), num_classes=3, num_attributes=3)).eval()
    engine = prepare(model)
    assert (model.describe(), engine.describe()) == ("textbook", "exact")
    pixels, boxes = torch.randn(1, 3, 64, 64), [some_boxes(3)]
    with torch.no_grad():
        for wanted, found in zip(
            parts(model, pixels, boxes)[:5], parts(engine, pixels, boxes)[:5], strict=True
        ):
            torch.testing.assert_close(
                found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max())
            )


@given(number=st.integers(1, 30), spread=st.floats(1, 200), seed=st.integers(0, 1000))
def test_the_best_boxes_apart_are_the_first_of_all_apart(
    number: int, spread: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(120, 2, generator=generator) * spread
    boxes = torch.cat((corners, corners + 30), dim=1)
    scores = torch.randint(0, 20, (120,), generator=generator).sort(descending=True).values / 20
    wanted = nms(boxes, scores, 0.5)[:number]
    assert torch.equal(_best_apart(boxes, scores, number, 0.5), wanted)
