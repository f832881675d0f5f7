"""Recorded outputs of microsoft/scene_graph_benchmark: where they lie, and how they are compared.

Every network, image and variant listed in `cases.json` is run; nothing is named here. Tolerances
are those of the oracle's README: random deep networks amplify rounding, so features and logits may
differ by 2e-3 + 1e-3 relative, boxes by 2e-2 px, scores by 1e-3. Numbers, labels, order are exact.
"""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from detector.engine import Engine
from detector.engines import prepare
from detector.model import AttributeRCNN
from detector.preprocess import ModelImages, to_model_images
from detector.proposals import Proposals, propose
from detector.published.checkpoint_names import (
    from_published,
)
from detector.published.weights_file import read_published_weights
from detector.published.yaml_keys import config_from_settings
from detector.see import Detections
from detector.weights import load_weights
from tests.locations import oracle_dir, oracle_files

FOLDER = oracle_dir("detector")
CASES: dict[str, Any] = (
    json.loads(oracle_files("detector", "cases.json")[0].read_text()) if FOLDER.is_dir() else {}
)
NETWORKS: dict[str, Any] = CASES.get("networks", {})
VALUES = {"rtol": 1e-3, "atol": 2e-3}
PIXELS = {"rtol": 0.0, "atol": 2e-2}
SCORES = {"rtol": 0.0, "atol": 1e-3}
SWAPPABLE = 1e-5  # attribute labels of scores closer than this may change places


def listed(cases: list[Any]) -> list[Any]:
    """Cases as parameters; one skipped case where there is no oracle."""
    if not FOLDER.is_dir():
        skip = pytest.mark.skip(reason="no recorded outputs; set OSCAR_ORACLE_DIR to their folder")
        return [pytest.param(None, marks=skip)]
    assert cases, f"{FOLDER} lists no cases"
    return cases


IMAGES = listed([(name, i) for name, net in NETWORKS.items() for i in range(len(net["images"]))])
VARIANTS = listed(
    [
        (name, i, variant)
        for name, net in NETWORKS.items()
        for i in range(len(net["images"]))
        for variant in net["variants"]
    ]
)


@cache
def tensors_of(network: str) -> dict[str, Tensor]:
    return load_file(FOLDER / f"{network}.cases.safetensors")


def given_boxes(network: str, number: int) -> list[str]:
    """Names of the runs of one image in which boxes were given."""
    names = [name.split(".") for name in tensors_of(network)]
    return sorted(n[1] for n in names if n[0] == f"img{number}" and n[2:] == ["in_boxes"])


@cache
def weights_of(network: str) -> dict[str, Tensor]:
    return read_published_weights(FOLDER / f"{network}.weights.safetensors")


@cache
def model_of(network: str) -> AttributeRCNN:
    model = AttributeRCNN(config_from_settings(NETWORKS[network]["config_overrides"]))
    load_weights(model, from_published(weights_of(network), model.cell_anchors), network)
    return model.eval()


@cache
def engine_of(network: str, kind: str) -> Engine:
    """The model itself, or what is made of it to be exact and quick."""
    return model_of(network) if kind == "textbook" else prepare(model_of(network))


ENGINES = pytest.mark.parametrize("kind", ["textbook", "exact"])


def settings_of(network: str, variant: str) -> dict[str, Any]:
    entry = NETWORKS[network]["variants"][variant]
    return NETWORKS[network]["config_overrides"] | entry


@cache
def photo_of(network: str, number: int) -> np.ndarray:
    path = FOLDER / NETWORKS[network]["images"][number]["file"]
    return np.asarray(Image.open(path).convert("RGB"))


@cache
def images_of(network: str, *numbers: int) -> ModelImages:
    photos = [photo_of(network, number) for number in numbers]
    return to_model_images(photos, model_of(network).config)


def expected(network: str, number: int, prefix: str = "") -> dict[str, Tensor]:
    """Tensors of one image (and variant) by the rest of their names."""
    head = f"img{number}.{prefix}"
    found = {k.removeprefix(head): v for k, v in tensors_of(network).items() if k.startswith(head)}
    assert found, f"{network} has nothing under {head}"
    return found


@cache
def c4_of(network: str, number: int) -> Tensor:
    with torch.no_grad():
        return model_of(network).trunk(images_of(network, number).pixels)


@cache
def proposals_of(network: str, number: int) -> Proposals:
    model, c4 = model_of(network), c4_of(network, number)
    with torch.no_grad():
        logits, deltas = model.rpn_head(c4)
    return propose_as_configured(model, c4, logits, deltas, images_of(network, number).sizes)[0]


def propose_as_configured(
    model: AttributeRCNN, c4: Tensor, logits: Tensor, deltas: Tensor, sizes: Any
) -> list[Proposals]:
    return propose(
        logits,
        deltas,
        model.anchors(c4),
        sizes,
        pre_nms_top_n=model.config.pre_nms_top_n,
        post_nms_top_n=model.config.post_nms_top_n,
        nms_overlap=model.config.proposal_nms_overlap,
        min_size=model.config.proposal_min_size,
    )


def agree(found: Tensor, wanted: Tensor, tolerance: Mapping[str, float], what: str) -> None:
    torch.testing.assert_close(
        found.float(), wanted.float(), **tolerance, msg=lambda text: f"{what}: {text}"
    )


def same(found: Tensor, wanted: Tensor, what: str) -> None:
    assert found.tolist() == wanted.tolist(), what


def to_original(boxes: Tensor, images: ModelImages, position: int = 0) -> Tensor:
    from detector.detect import to_original_pixels

    return to_original_pixels(boxes, images.sizes[position], images.original_sizes[position])


def agree_on_attributes(found: Detections, wanted: Mapping[str, Tensor]) -> None:
    """Equal logits (where recorded), equal scores in order, equal label for every score > 0."""
    if "attr_logits" in wanted:
        agree(found.attribute_logits, wanted["attr_logits"], VALUES, "attr_logits")
    scores, wanted_scores = found.attributes.scores, wanted["attr_scores"]
    agree(scores, wanted_scores, SCORES, "attr_scores")
    for row in range(len(scores)):
        same(wanted_scores[row] > 0, scores[row] > 0, "attribute slots used")
        num = int((wanted_scores[row] > 0).sum())
        ours, theirs = found.attributes.ids[row, :num], wanted["attr_labels"][row, :num].long()
        for slot in torch.nonzero(ours != theirs).flatten().tolist():
            twins = torch.nonzero(
                (wanted_scores[row, :num] - wanted_scores[row, slot]).abs() < SWAPPABLE
            ).flatten()
            assert ours[slot] in theirs[twins], f"attribute labels of region {row}"
