"""Ours and detectron2 with the same weights on the same photos, stage by stage.

python -m benchmarks detectron2_difference --detectron2 FOLDER [--packages FOLDER] --photo FILE ...

Both are of full size with random weights. First the parts that compute the same, then how near
detectron2 comes with its own anchors, overlap, pooling instead of ours (`specs/detector.md` 10.1).
"""

import argparse
import json
import statistics
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import box_iou

from benchmarks.figure import machine
from detector.config import PRESETS, RegionRules
from detector.model import AttributeRCNN
from detector.preprocess import ModelImages, to_model_images
from detector.see import search, see

_OUTSIDE = torch.tensor([0.0, 0.0, 1.0, 1.0])  # detectron2's x2, y2 lie outside the box


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A stage of one photo.

    difference: largest absolute difference; for exact things the number of unequal ones
    largest:    largest absolute value of ours
    """

    photo: str
    stage: str
    shape: tuple[int, ...]
    difference: float
    largest: float

    def __str__(self) -> str:
        """One line of the table."""
        shape = " x ".join(map(str, self.shape))
        return f"{self.stage:34} {shape:>16} {self.difference:12.3g} {self.largest:12.4g}"


def compared(photo: str, stage: str, ours: Tensor, theirs: Tensor) -> Row:
    """A row of two tensors of one shape."""
    assert ours.shape == theirs.shape, f"{stage}: {ours.shape} against {theirs.shape}"
    away = (ours - theirs).abs().max() if ours.is_floating_point() else (ours != theirs).sum()
    return Row(
        photo=photo,
        stage=stage,
        shape=tuple(ours.shape),
        difference=float(away),
        largest=float(ours.abs().max()),
    )


def ratio_by_ratio(model: AttributeRCNN, tensor: Tensor, width: int) -> Tensor:
    """(A * width, h, w) of detectron2, size by size, in our order."""
    sizes, ratios = len(model.config.anchor_sizes), len(model.config.aspect_ratios)
    parts = tensor.view(sizes, ratios, width, *tensor.shape[1:])
    return parts.transpose(0, 1).reshape(tensor.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A photo that both have seen up to C4.

    c4:       (1, C4, h, w) of ours
    features: those of detectron2's backbone
    """

    name: str
    images: ModelImages
    c4: Tensor
    features: dict[str, Tensor]

    @property
    def given(self) -> Any:
        """The network's input as detectron2 has it after its own preprocessing."""
        from detectron2.structures import ImageList

        return ImageList(self.images.pixels, [self.images.sizes[0]])


class Seen:
    """Our model, whose trunk was computed already."""

    def __init__(self, model: AttributeRCNN, c4: Tensor) -> None:
        self.model, self.c4 = model, c4

    def __getattr__(self, name: str) -> Any:
        """Everything else is the model's."""
        return getattr(self.model, name)

    def trunk(self, pixels: Tensor) -> Tensor:
        """What was computed."""
        return self.c4


@torch.inference_mode()
def case_of(path: Path, model: AttributeRCNN, built: Any, rows: list[Row]) -> Case:
    """See a photo up to C4; network input and C4 are compared."""
    from detector.published.detectron2_model import input_of

    images = to_model_images([np.asarray(Image.open(path).convert("RGB"))], model.config)
    given = input_of(images.pixels[0], images.original_sizes[0], model.config)
    theirs = built.preprocess_image([given])
    case = Case(
        name=path.name,
        images=images,
        c4=model.trunk(images.pixels),
        features=built.backbone(theirs.tensor),
    )
    rows.append(compared(path.name, "network input", images.pixels, theirs.tensor))
    rows.append(compared(path.name, "C4", case.c4, case.features["res4"]))
    return case


@torch.inference_mode()
def same_parts(case: Case, model: AttributeRCNN, built: Any) -> Iterator[Row]:
    """What both compute; proposals from each one's own C4, features from the same boxes."""
    from detectron2.structures import Boxes

    name, c4, features = case.name, case.c4, case.features
    logits, deltas = model.rpn_head(c4)
    (their_logits,), (their_deltas,) = built.proposal_generator.rpn_head([features["res4"]])
    yield compared(name, "proposal logits", logits[0], ratio_by_ratio(model, their_logits[0], 1))
    yield compared(name, "proposal deltas", deltas[0], ratio_by_ratio(model, their_deltas[0], 4))
    yield compared(name, "anchors [px]", model.anchors(c4), anchors_of(built, model, c4))
    boxes = search(model, c4, case.images.sizes)[0]
    proposals, _ = built.proposal_generator(case.given, features)
    theirs = proposals[0].proposal_boxes.tensor - _OUTSIDE
    nearest = (boxes[:, None] - theirs[None]).abs().amax(dim=2).argmin(dim=1)
    yield compared(name, "proposals, the nearest [px]", boxes, theirs[nearest])
    yield compared(name, "proposals: order", torch.arange(len(boxes)), nearest)
    vectors = model.region_features(c4, [boxes])
    their_vectors = built.roi_heads.region_features(features, [Boxes(boxes + _OUTSIDE)])
    yield compared(name, "features, boxes given", vectors, their_vectors)
    class_logits, moves = built.roi_heads.box_predictor(their_vectors)
    ours = model.class_logits(vectors)
    yield compared(name, "class logits", ours, class_logits.roll(1, dims=1))
    yield compared(name, "box deltas", model.box_deltas(vectors)[:, 4:], moves)


@torch.inference_mode()
def same_detections(case: Case, model: AttributeRCNN, built: Any) -> Iterator[Row]:
    """Regions, each program from its own C4 on; ours beside theirs of the same place and class.

    Scores that agree in all but the last digits may come in another order.
    """
    proposals, _ = built.proposal_generator(case.given, case.features)
    (theirs,), _ = built.roi_heads(case.given, case.features, proposals)
    ours = see(Seen(model, case.c4), case.images)[0]
    name = case.name
    boxes, classes = theirs.pred_boxes.tensor - _OUTSIDE, theirs.pred_classes + 1
    far = (ours.boxes[:, None] - boxes[None]).abs().amax(dim=2)
    twin = (far + 1e4 * (ours.class_ids[:, None] != classes[None])).argmin(dim=1)
    everyone = torch.arange(len(twin))
    yield compared(name, "regions: number", torch.tensor([len(twin)]), torch.tensor([len(boxes)]))
    yield compared(name, "regions: order", everyone, twin)
    yield compared(name, "regions: class", ours.class_ids, classes[twin])
    yield compared(name, "regions: box [px]", ours.boxes, boxes[twin])
    yield compared(name, "regions: score", ours.scores, theirs.scores[twin])
    yield compared(name, "regions: feature", ours.features, theirs.features[twin])
    logits, scores = theirs.attribute_logits[twin], theirs.attribute_scores[twin]
    yield compared(name, "attribute logits", ours.attribute_logits, logits)
    yield compared(name, "attribute ids", ours.attributes.ids, theirs.attribute_ids[twin])
    yield compared(name, "attribute scores", ours.attributes.scores, scores)


def anchors_of(built: Any, model: AttributeRCNN, c4: Tensor) -> Tensor:
    """Anchors of detectron2 in inclusive pixels and our order, (h * w * A, 4)."""
    anchors = built.proposal_generator.anchor_generator([c4])[0].tensor - _OUTSIDE
    sizes, ratios = len(model.config.anchor_sizes), len(model.config.aspect_ratios)
    ordered: Tensor = anchors.view(-1, sizes, ratios, 4).transpose(1, 2).reshape(-1, 4)
    return ordered


@torch.inference_mode()
def own_parts(case: Case, model: AttributeRCNN, plain: Any) -> dict[str, float]:
    """How near detectron2's own anchors, proposals and pooling come to ours."""
    from detectron2.structures import Boxes

    c4 = case.c4
    boxes = search(model, c4, case.images.sizes)[0]
    own, _ = plain.proposal_generator(case.given, {"res4": c4})
    overlaps = box_iou(boxes, own[0].proposal_boxes.tensor - _OUTSIDE).max(dim=1).values
    ours = model.region_features(c4, [boxes])
    theirs = plain.roi_heads.region_features({"res4": c4}, [Boxes(boxes + _OUTSIDE)])
    cosines = torch.cosine_similarity(ours, theirs)
    ours_ids, their_ids = (model.class_logits(each)[:, 1:].argmax(1) for each in (ours, theirs))
    away = (model.anchors(c4) - anchors_of(plain, model, c4)).abs().max()
    return {
        "anchors: largest distance [px]": float(away),
        "proposals with one of overlap > 0.9": float((overlaps > 0.9).float().mean()),
        "features: mean cosine, boxes given": float(cosines.mean()),
        "features: smallest cosine": float(cosines.min()),
        "best classes that agree": float((ours_ids == their_ids).float().mean()),
    }


def main(arguments: Sequence[str]) -> int:
    """Compare, print two tables, write JSON if asked."""
    options = _options(arguments)
    if not options.detectron2.is_dir():
        print(f"error: {options.detectron2}: no folder of detectron2's source", file=sys.stderr)
        return 2
    sys.path[:0] = [str(options.detectron2), *map(str, options.packages)]
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    model = _model(options.preset, options.proposals, options.photo[0])
    from detector.published.detectron2_model import build_detectron2

    print(machine())
    print(f"{options.preset}, random weights; differences are the largest absolute ones")
    built = build_detectron2(model)
    rows: list[Row] = []
    cases = []
    for path in options.photo:
        own_rows: list[Row] = []
        case = case_of(path, model, built, own_rows)
        print(f"\n{path.name}, {' x '.join(map(str, case.images.sizes[0]))} pixels")
        print(f"{'stage':34} {'shape':>16} {'difference':>12} {'largest':>12}")
        print("\n".join(map(str, own_rows)), flush=True)
        for part in (same_parts, same_detections):
            for row in part(case, model, built):
                own_rows.append(row)
                print(row, flush=True)
        rows += own_rows
        cases.append(case)
    near = _nearness(model, cases)
    if options.json:
        content = {"stages": [asdict(row) for row in rows], "own_parts": near}
        options.json.write_text(json.dumps(content, indent=1))
    return 0


def _nearness(model: AttributeRCNN, cases: Sequence[Case]) -> dict[str, float]:
    """Print how near plain detectron2 comes; medians over photos."""
    from detector.published.detectron2_model import build_detectron2

    zoo = AttributeRCNN(replace(model.config, conventions="detectron2")).eval()
    zoo.load_state_dict(model.state_dict())
    plain = build_detectron2(zoo)
    print("\ndetectron2's own anchors, proposals and pooling, the same weights and C4")
    found = [own_parts(case, model, plain) for case in cases]
    near = {name: statistics.median(each[name] for each in found) for name in found[0]}
    for name, value in near.items():
        print(f"{name:40} {value:10.4g}")
    return near


def _model(preset: str, num_proposals: int, photo: Path) -> AttributeRCNN:
    """Of full size, with weights under which classes and boxes differ."""
    from benchmarks.reference.sane_weights import sane_weights
    from detector.published.checkpoint_names import from_published
    from detector.weights import load_weights

    rules = RegionRules(regress_boxes=True)
    config = replace(PRESETS[preset], regions=rules, post_nms_top_n=num_proposals)
    model = AttributeRCNN(config)
    small = np.asarray(Image.open(photo).convert("RGB").resize((320, 240)))
    tensors = sane_weights(config, small, seed=0)
    load_weights(model, from_published(tensors, model.cell_anchors), "random weights")
    return model.eval()


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks detectron2_difference")
    parser.add_argument("--detectron2", type=Path, required=True, help="its source tree")
    parser.add_argument("--packages", type=Path, nargs="*", default=[], help="what it imports")
    parser.add_argument("--photo", type=Path, nargs="+", required=True)
    parser.add_argument("--preset", choices=("x152c4", "r50c4", "r101c4"), default="x152c4")
    parser.add_argument("--proposals", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)
