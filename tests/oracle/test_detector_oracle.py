"""The detector against the recorded outputs of `detector_cases`, stage by stage."""

import base64
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detector import load_detector
from detector.anchors import visible_anchors
from detector.checkpoints import read_detector
from detector.compat import PUBLISHED, Compat
from detector.postprocess import keep_regions
from detector.published.checkpoint_names import (
    from_published,
    to_published,
)
from detector.published.sizes import NOT_IN_TENSORS
from detector.published.yaml_keys import config_from_settings
from detector.see import see
from tests.oracle.detector_cases import (
    CASES,
    ENGINES,
    FOLDER,
    IMAGES,
    NETWORKS,
    PIXELS,
    SCORES,
    VALUES,
    VARIANTS,
    agree,
    agree_on_attributes,
    c4_of,
    engine_of,
    expected,
    given_boxes,
    images_of,
    listed,
    model_of,
    photo_of,
    proposals_of,
    propose_as_configured,
    same,
    settings_of,
    tensors_of,
    to_original,
    weights_of,
)

pytestmark = pytest.mark.oracle


@pytest.mark.parametrize("network", listed(list(NETWORKS)))
def test_every_published_tensor_has_one_place_and_comes_back(network: str) -> None:
    model = model_of(network)
    shapes = {name: tuple(shape) for name, shape in NETWORKS[network]["shapes"].items()}
    written = to_published(model.state_dict(), model.cell_anchors)
    assert {name: tuple(tensor.shape) for name, tensor in written.items()} == shapes
    for name, tensor in weights_of(network).items():
        assert torch.equal(written[name], tensor), name
    again = from_published(written, model.cell_anchors)
    assert again.keys() == model.state_dict().keys()


@pytest.mark.parametrize("network", listed(list(NETWORKS)))
def test_tensors_tell_the_network(network: str) -> None:
    wanted = config_from_settings(NETWORKS[network]["config_overrides"])
    path = FOLDER / f"{network}.weights.safetensors"
    found = read_detector(path).model.config
    told = {field.name for field in fields(wanted)} - NOT_IN_TENSORS.keys() - {"regions"}
    assert {n: getattr(found, n) for n in told} == {n: getattr(wanted, n) for n in told}
    stated = read_detector(path, settings=NETWORKS[network]["config_overrides"]).model.config
    assert replace(stated, regions=wanted.regions) == wanted


@pytest.mark.parametrize("case", IMAGES)
def test_load_detector_sees_what_the_original_saw(case: tuple[str, int]) -> None:
    network, number = case
    variants = NETWORKS[network]["variants"]
    by_confidence = [n for n, each in variants.items() if each["MODEL.ROI_HEADS.NMS_FILTER"] == 1]
    if not by_confidence:
        pytest.skip("no variant of filter 1, the one whose order a region record has")
    variant = by_confidence[0]
    detector = load_detector(
        FOLDER / f"{network}.weights.safetensors", settings=settings_of(network, variant)
    )
    [found] = detector.detect([photo_of(network, number)], compat=PUBLISHED)
    wanted = expected(network, number, f"{variant}.")
    assert found.class_ids.tolist() == wanted["labels"].tolist()
    agree(torch.from_numpy(found.boxes), wanted["boxes_orig"], PIXELS, "boxes_orig")
    agree(torch.from_numpy(found.confidences), wanted["scores"], SCORES, "scores")
    features = expected(network, number)["features"][wanted["feat_index"].long()]
    agree(torch.from_numpy(found.features), features, VALUES, "features")


@pytest.mark.parametrize("case", IMAGES)
def test_input_equals_the_recorded_pixels(case: tuple[str, int]) -> None:
    network, number = case
    wanted, entry = expected(network, number), NETWORKS[network]["images"][number]
    images = images_of(network, number)
    assert list(images.sizes[0]) == entry["net_size_hw"]
    assert list(reversed(images.original_sizes[0])) == entry["orig_size_wh"]
    if "input" in wanted:
        pixels = wanted["input"]
    else:
        mean = torch.tensor(model_of(network).config.pixel_mean).view(3, 1, 1)
        pixels = wanted["input_u8_bgr"].float() / 255 * 255 - mean
    assert torch.equal(images.pixels[0], pixels)


@pytest.mark.parametrize("case", IMAGES)
def test_trunk_anchors_and_proposals(case: tuple[str, int]) -> None:
    network, number = case
    wanted, model = expected(network, number), model_of(network)
    c4, (height, width) = c4_of(network, number), images_of(network, number).sizes[0]
    agree(c4[0], wanted["c4"], VALUES, "c4")
    with torch.no_grad():
        logits, deltas = model.rpn_head(c4)
    agree(logits[0], wanted["rpn_logits"], VALUES, "rpn_logits")
    agree(deltas[0], wanted["rpn_deltas"], VALUES, "rpn_deltas")
    anchors = model.anchors(c4)
    assert torch.equal(anchors, wanted["anchors"])
    same(visible_anchors(anchors, height, width).to(torch.uint8), wanted["visible"], "visible")
    proposals = proposals_of(network, number)
    agree(proposals.boxes, wanted["proposals"], PIXELS, "proposals")
    agree(proposals.scores, wanted["proposal_scores"], SCORES, "proposal_scores")


@pytest.mark.parametrize("case", IMAGES)
def test_pooled_regions_features_and_heads(case: tuple[str, int]) -> None:
    network, number = case
    wanted, model = expected(network, number), model_of(network)
    boxes = proposals_of(network, number).boxes
    with torch.no_grad():
        pooled = model.pool(c4_of(network, number), [boxes])
        maps = model.res5(pooled)
        features = maps.mean(dim=(2, 3))
        class_logits, box_deltas = model.box_head(features)
    two = [0, len(boxes) // 2]
    if "roi_align_0_mid" in wanted:
        agree(pooled[two], wanted["roi_align_0_mid"], VALUES, "roi_align_0_mid")
        agree(maps[two], wanted["res5_0_mid"], VALUES, "res5_0_mid")
    agree(features, wanted["features"], VALUES, "features")
    agree(class_logits, wanted["class_logits"], VALUES, "class_logits")
    agree(box_deltas, wanted["box_deltas"], VALUES, "box_deltas")


@ENGINES
@pytest.mark.parametrize("case", VARIANTS)
def test_final_regions_of_every_variant(case: tuple[str, int, str], kind: str) -> None:
    network, number, variant = case
    wanted, images = expected(network, number, f"{variant}."), images_of(network, number)
    rules = config_from_settings(settings_of(network, variant)).regions
    found = see(engine_of(network, kind), images, rules=rules, compat=PUBLISHED)[0]
    same(found.class_ids, wanted["labels"], "labels")
    same(found.proposals, wanted["feat_index"], "feat_index")
    agree(found.boxes, wanted["boxes"], PIXELS, "boxes")
    agree(to_original(found.boxes, images), wanted["boxes_orig"], PIXELS, "boxes_orig")
    agree(found.scores, wanted["scores"], SCORES, "scores")
    all_features = expected(network, number)["features"]
    agree(found.features, all_features[wanted["feat_index"].long()], VALUES, "features")
    agree_on_attributes(found, wanted)


@pytest.mark.parametrize("case", IMAGES)
def test_the_exact_engine_stage_by_stage(case: tuple[str, int]) -> None:
    network, number = case
    wanted, engine = expected(network, number), engine_of(network, "exact")
    with torch.no_grad():
        c4 = engine.trunk(images_of(network, number).pixels)
        logits, deltas = engine.rpn_head(c4)
        features = engine.region_features(c4, [wanted["proposals"]])
        few = engine.region_features(c4, [wanted["proposals"][:2]])  # too few for the map
    agree(c4[0], wanted["c4"], VALUES, "c4")
    agree(logits[0], wanted["rpn_logits"], VALUES, "rpn_logits")
    agree(deltas[0], wanted["rpn_deltas"], VALUES, "rpn_deltas")
    assert torch.equal(engine.anchors(c4), wanted["anchors"])
    agree(features, wanted["features"], VALUES, "features")
    agree(few, wanted["features"][:2], VALUES, "features")
    agree(engine.class_logits(features), wanted["class_logits"], VALUES, "class_logits")
    agree(engine.box_deltas(features), wanted["box_deltas"], VALUES, "box_deltas")


@pytest.mark.parametrize("case", VARIANTS)
def test_our_own_rules_keep_the_same_regions(case: tuple[str, int, str]) -> None:
    """Without the original's quirks only boxes and attributes change, and only where it erred."""
    network, number, variant = case
    wanted, images = expected(network, number, f"{variant}."), images_of(network, number)
    rules = config_from_settings(settings_of(network, variant)).regions
    found = see(model_of(network), images, rules=rules)[0]
    same(found.class_ids, wanted["labels"], "labels")
    same(found.proposals, wanted["feat_index"], "feat_index")
    if rules.filter != 2 or not rules.regress_boxes or found.boxes.shape[0] == 0:
        agree(found.boxes, wanted["boxes"], PIXELS, "boxes")


@ENGINES
@pytest.mark.parametrize(
    "case",
    listed(
        [
            (name, i, kind)
            for name, net in NETWORKS.items()
            for i in range(len(net["images"]))
            for kind in given_boxes(name, i)
        ]
    ),
)
def test_forced_boxes_are_named_not_searched(case: tuple[str, int, str], kind: str) -> None:
    network, number, run = case
    wanted, images = expected(network, number, f"{run}."), images_of(network, number)
    config, engine = model_of(network).config, engine_of(network, kind)
    found = see(engine, images, forced_boxes=[wanted["in_boxes"]], compat=PUBLISHED)[0]
    assert config.regions.attribute_threshold == 0.05
    same(found.class_ids, wanted["labels"], "labels")
    agree(found.boxes, wanted["boxes"], PIXELS, "boxes")
    agree(found.scores, wanted["scores"], SCORES, "scores")
    agree(found.features, wanted["features"], VALUES, "features")
    agree_on_attributes(found, wanted)


@ENGINES
@pytest.mark.parametrize(
    "network", listed([name for name, net in NETWORKS.items() if net.get("batch01")])
)
def test_a_padded_batch_of_two_images(network: str, kind: str) -> None:
    entry, model = NETWORKS[network]["batch01"], engine_of(network, kind)
    images = images_of(network, 0, 1)
    assert list(images.pixels.shape[2:]) == entry["padded_hw"]
    wanted = {
        name.removeprefix("batch01."): tensor
        for name, tensor in tensors_of(network).items()
        if name.startswith("batch01.")
    }
    with torch.no_grad():
        c4 = model.trunk(images.pixels)
        proposals = propose_as_configured(model, c4, *model.rpn_head(c4), images.sizes)
    agree(c4[0], wanted["c4_b0"], VALUES, "c4_b0")
    rules = config_from_settings(settings_of(network, entry["variant"])).regions
    for number, found in enumerate(see(model, images, rules=rules, compat=PUBLISHED)):
        own = {
            name.removeprefix(f"{number}."): tensor
            for name, tensor in wanted.items()
            if name.startswith(f"{number}.")
        }
        agree(proposals[number].boxes, own["proposals"], PIXELS, "proposals")
        agree(proposals[number].scores, own["proposal_scores"], SCORES, "proposal_scores")
        same(found.class_ids, own["labels"], "labels")
        agree(found.boxes, own["boxes"], PIXELS, "boxes")
        agree(found.scores, own["scores"], SCORES, "scores")
        agree(found.features, own["box_features"], VALUES, "box_features")
        agree_on_attributes(found, own)


@pytest.mark.parametrize("case", listed([CASES["tsv_case"]] if "tsv_case" in CASES else [None]))
def test_the_recorded_run_of_the_program_row_by_row(case: dict[str, Any] | None) -> None:
    if case is None:
        pytest.skip("this oracle has no tsv_case")
    network, keys, settings = case["network"], case["image_keys"], case["config"]
    config = config_from_settings(settings)
    names = json.loads((FOLDER / f"{network}.tsv" / "labelmap.json").read_text())
    class_names = {int(n): name for n, name in names["idx_to_label"].items()}
    attribute_names = {int(n): name for n, name in names["idx_to_attribute"].items()}
    rows = read_predictions(FOLDER / f"{network}.tsv" / "predictions.tsv")
    assert list(rows) == keys
    for batch in batches_by_aspect(network, len(keys), settings["TEST.IMS_PER_BATCH"]):
        images = images_of(network, *batch)
        detections = see(model_of(network), images, rules=config.regions, compat=PUBLISHED)
        for position, (number, found) in enumerate(zip(batch, detections, strict=True)):
            objects = rows[keys[number]]["objects"]
            assert [row["class"] for row in objects] == [
                class_names[int(i)] for i in found.class_ids
            ]
            assert [row["bbox_id"] for row in objects] == list(range(len(objects)))
            boxes = to_original(found.boxes, images, position)
            agree(boxes, torch.tensor([row["rect"] for row in objects]), PIXELS, "rect")
            agree(found.scores, torch.tensor([row["conf"] for row in objects]), SCORES, "conf")
            features = [np.frombuffer(base64.b64decode(row["feature"]), "<f4") for row in objects]
            agree(found.features, torch.from_numpy(np.stack(features)), VALUES, "feature")
            for row, ids, scores in zip(
                objects, found.attributes.ids, found.attributes.scores, strict=True
            ):
                assert [round(s, 2) for s in row["attr_scores"]] == pytest.approx(
                    scores.tolist(), abs=6e-3
                )
                ours = dict(zip(ids.tolist(), scores.tolist(), strict=True))
                for name, score in zip(row["attributes"], row["attr_scores"], strict=True):
                    if score > SCORES["atol"]:
                        known = {attribute_names.get(i): s for i, s in ours.items() if i}
                        assert known[name] == pytest.approx(score, abs=SCORES["atol"])


def batches_by_aspect(network: str, num_images: int, batch_size: int) -> list[list[int]]:
    """Landscape apart from the others, in order; at most `batch_size` together."""
    is_tall = [
        photo_of(network, i).shape[0] >= photo_of(network, i).shape[1] for i in range(num_images)
    ]
    batches = []
    for kind in (False, True):
        members = [i for i in range(num_images) if is_tall[i] == kind]
        batches += [members[i : i + batch_size] for i in range(0, len(members), batch_size)]
    return batches


def read_predictions(path: Path) -> dict[str, Any]:
    rows = {}
    for line in path.read_text().splitlines():
        key, content = line.split("\t")
        rows[key] = json.loads(content)
    return rows


def test_quirks_are_off_unless_asked_for() -> None:
    assert Compat() == Compat(filter2_takes_wrong_boxes=False, attribute_cap_counts_zeros=False)
    assert keep_regions.__doc__ is not None
