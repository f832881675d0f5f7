"""Differences between another program's stages and ours, for one photo.

Each stage up to the proposals gets our own input. From there on it gets the program's proposals, so
that one box that rounding puts in another place does not hide what comes after; the last rows are
both programs from end to end.

Stages go by names: input, c4, rpn_logits, rpn_deltas, proposals, features, class_logits,
box_deltas; regions by those of `REGIONS`, what a filter kept by the first three of them behind its
own name.

Letters: R proposals, k regions, A attributes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.reference.program import VARIANTS
from detector.compat import PUBLISHED
from detector.config import RULES, RegionRules
from detector.engine import Engine
from detector.postprocess import keep_regions
from detector.preprocess import to_model_images
from detector.see import Detections, search, see

Stages = Mapping[str, Tensor]
REGIONS = (
    *("boxes", "labels", "scores", "kept_features"),
    *("attribute_logits", "attribute_ids", "attribute_scores"),
)
REFINED = "refined."
"""Before the names of regions whose boxes are refined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One row of the table.

    largest: absolute difference between numbers in the same place; None where the counts differ
    scale:   the largest absolute number of the program's
    note:    what is counted instead of measured, "" if nothing
    """

    stage: str
    largest: float | None
    scale: float
    note: str = ""


@torch.inference_mode()
def differences(
    engine: Engine,
    pixels: NDArray[np.uint8],
    theirs: Stages,
    rules: RegionRules = RULES["vinvl_readme"],
) -> Iterator[Difference]:
    """All stages of one photo; filters and refined regions as far as the other program has them.

    Args:
        engine: What computes.
        pixels: (H, W, 3) the photo.
        theirs: From `benchmarks.reference.program` or `benchmarks.reference.detectron2`.
        rules: By which regions are kept from end to end.
    """
    images = to_model_images([pixels], engine.config)
    yield _of("input", images.pixels[0], theirs["input"])
    c4 = engine.trunk(images.pixels)
    yield _of("c4", c4[0], theirs["c4"])
    logits, deltas = engine.rpn_head(c4)
    yield _of("proposal logits", logits[0], theirs["rpn_logits"])
    yield _of("proposal deltas", deltas[0], theirs["rpn_deltas"])
    yield _boxes("proposals [px]", search(engine, c4, images.sizes)[0], theirs["proposals"])
    given = theirs["proposals"]
    features = engine.region_features(c4, [given])
    yield _of("region features", features, theirs["features"])
    class_logits, moves = engine.class_logits(features), engine.box_deltas(features)
    yield _of("class logits", class_logits, theirs["class_logits"])
    yield _of("box deltas", moves, theirs["box_deltas"])
    for name in (name for name in VARIANTS if f"{name}.boxes" in theirs):
        filtering = _rules(name)
        kept = keep_regions(
            class_logits,
            moves if filtering.regress_boxes else None,
            given,
            images.sizes[0],
            engine.config,
            filtering,
            PUBLISHED,
        )
        yield from _regions(name, kept.boxes, kept.class_ids, kept.scores, theirs, f"{name}.")
    for head, stage in (("", "end to end"), (REFINED, "end to end, refined")):
        if f"{head}boxes" in theirs:
            [found] = see(engine, images, rules=replace(rules, regress_boxes=head == REFINED))
            wanted = {name: theirs[f"{head}{name}"] for name in REGIONS}
            yield from _end_to_end(stage, found, wanted)


def _end_to_end(stage: str, found: Detections, theirs: Stages) -> Iterator[Difference]:
    """Regions from pixels on, each of theirs beside ours of the same class at the same place.

    Where scores are all but equal, rounding may exchange two regions or the last one that is kept.
    """
    apart = _distances(theirs["boxes"], found.boxes)
    apart[theirs["labels"][:, None] != found.class_ids] = torch.inf
    nearest, places = apart.min(dim=1)
    both = nearest < 1.0
    ours = places[both]
    in_place = int((ours == torch.arange(len(both))[both]).sum())
    note = f"{int(both.sum())} of {len(both)} found, {in_place} in their place"
    yield replace(_of(f"{stage}: boxes [px]", found.boxes[ours], theirs["boxes"][both]), note=note)
    for part, numbers, name in (
        ("  scores", found.scores, "scores"),
        ("  features of regions", found.features, "kept_features"),
        ("  attribute logits", found.attribute_logits, "attribute_logits"),
    ):
        yield _of(part, numbers[ours], theirs[name][both])
    ids, scores = found.attributes.ids[ours], found.attributes.scores[ours]
    wanted, wanted_scores = theirs["attribute_ids"][both], theirs["attribute_scores"][both]
    told = wanted_scores > 0
    same = int(((ids == wanted) & (scores > 0))[told].sum())
    note = f"{same} of {int(told.sum())} attributes equal"
    yield replace(_of("  attribute scores", scores, wanted_scores), note=note)


def _rules(name: str) -> RegionRules:
    """Rules of a variant of the program."""
    number, is_ignored = VARIANTS[name]
    return replace(RULES["vinvl_readme"], filter=number, regress_boxes=not is_ignored)


def _regions(
    name: str, boxes: Tensor, class_ids: Tensor, scores: Tensor, theirs: Stages, head: str
) -> Iterator[Difference]:
    """Boxes, scores and classes of what was kept."""
    wanted = theirs[f"{head}labels"]
    same = int((class_ids == wanted).sum()) if len(class_ids) == len(wanted) else 0
    note = f"{same} of {len(wanted)} classes equal" + (
        "" if len(class_ids) == len(wanted) else f", ours are {len(class_ids)}"
    )
    yield replace(_of(f"{name}: boxes [px]", boxes, theirs[f"{head}boxes"]), note=note)
    yield _of("  scores", scores, theirs[f"{head}scores"])


def _of(stage: str, ours: Tensor, theirs: Tensor) -> Difference:
    """Numbers in the same places."""
    scale = float(theirs.abs().max()) if theirs.numel() else 0.0
    if ours.shape != theirs.shape:
        note = f"{len(ours)} rows, theirs are {len(theirs)}"
        return Difference(stage=stage, largest=None, scale=scale, note=note)
    largest = float((ours.float() - theirs).abs().max()) if theirs.numel() else 0.0
    return Difference(stage=stage, largest=largest, scale=scale)


def _distances(theirs: Tensor, ours: Tensor) -> Tensor:
    """Between boxes (n, 4) and (m, 4), (n, m) [px]; of equal boxes those in one place are nearest.

    Several boxes may be clipped to the same one.
    """
    places = (torch.arange(len(theirs))[:, None] - torch.arange(len(ours))).abs()
    return torch.cdist(theirs, ours, p=float("inf")) + 1e-6 * places.clamp(max=100)


def _boxes(stage: str, ours: Tensor, theirs: Tensor) -> Difference:
    """Boxes that may have changed places: each of theirs with the nearest of ours."""
    places = _distances(theirs, ours).argmin(dim=1)
    nearest = (theirs - ours[places]).abs().amax(dim=1)
    in_place = int((places == torch.arange(len(theirs))).sum())
    is_there = nearest < 1.0
    note = f"{int(is_there.sum())} of {len(theirs)} found, {in_place} in their place"
    largest = float(nearest[is_there].max()) if is_there.any() else None
    return Difference(stage=stage, largest=largest, scale=float(theirs.abs().max()), note=note)
