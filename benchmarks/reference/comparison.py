"""Differences between the program's stages and ours, for one photo.

Each stage up to the proposals gets our own input. From there on it gets the program's proposals, so
that one box that rounding puts in another place does not hide what comes after; the last rows are
both programs from end to end.

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
def differences(engine: Engine, pixels: NDArray[np.uint8], theirs: Stages) -> Iterator[Difference]:
    """All stages of one photo.

    Args:
        engine: What computes.
        pixels: (H, W, 3) the photo.
        theirs: From `benchmarks.reference.program`.
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
    for name in VARIANTS:
        rules = _rules(name)
        kept = keep_regions(
            class_logits,
            moves if rules.regress_boxes else None,
            given,
            images.sizes[0],
            engine.config,
            rules,
            PUBLISHED,
        )
        yield from _regions(name, kept.boxes, kept.class_ids, kept.scores, theirs, f"{name}.")
    [found] = see(engine, images, rules=RULES["vinvl_readme"])
    yield from _end_to_end(found, theirs)


def _end_to_end(found: Detections, theirs: Stages) -> Iterator[Difference]:
    """Regions from pixels on, each of theirs beside ours of the same class at the same place.

    Where scores are all but equal, rounding may exchange two regions or the last one that is kept.
    """
    apart = torch.cdist(theirs["boxes"], found.boxes, p=float("inf"))
    apart[theirs["labels"][:, None] != found.class_ids] = torch.inf
    nearest, places = apart.min(dim=1)
    both = nearest < 1.0
    ours = places[both]
    in_place = int((ours == torch.arange(len(both))[both]).sum())
    note = f"{int(both.sum())} of {len(both)} found, {in_place} in their place"
    yield replace(
        _of("end to end: boxes [px]", found.boxes[ours], theirs["boxes"][both]), note=note
    )
    for stage, numbers, name in (
        ("  scores", found.scores, "scores"),
        ("  features of regions", found.features, "kept_features"),
        ("  attribute logits", found.attribute_logits, "attribute_logits"),
    ):
        yield _of(stage, numbers[ours], theirs[name][both])
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


def _boxes(stage: str, ours: Tensor, theirs: Tensor) -> Difference:
    """Boxes that may have changed places: each of theirs with the nearest of ours."""
    apart = torch.cdist(theirs, ours, p=float("inf"))
    nearest, places = apart.min(dim=1)
    in_place = int((places == torch.arange(len(theirs))).sum())
    is_there = nearest < 1.0
    note = f"{int(is_there.sum())} of {len(theirs)} found, {in_place} in their place"
    largest = float(nearest[is_there].max()) if is_there.any() else None
    return Difference(stage=stage, largest=largest, scale=float(theirs.abs().max()), note=note)
