"""From a batch of network inputs with their truth to the five losses.

Letters: B images, K anchors of one image, A anchors per cell, S sampled boxes of the batch,
P positives among them, C classes with background, M attributes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from detector.anchors import visible_anchors
from detector.config import DetectorConfig
from detector.model import AttributeRCNN
from detector.proposals import propose
from detector.training.config import DetectorTraining
from detector.training.losses import (
    Counts,
    DetectorLosses,
    attribute_loss,
    box_loss,
    classifier_loss,
    objectness_loss,
    proposal_box_loss,
)
from detector.training.parts import in_parts
from detector.training.sampling import sample_balanced
from detector.training.targets import (
    POSITIVE,
    Truth,
    attribute_targets,
    deltas_to_truth,
    match_anchors,
    match_proposals,
)

GeneratorOf = Callable[[str, int], Generator]
"""A generator for a purpose ("anchors" or "regions") and an image's position in the batch."""

RPN_WEIGHTS = (1.0, 1.0, 1.0, 1.0)  # specs/detector.md 4.4


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionSample:
    """Boxes the box head learns from, in the order of the proposals; n boxes of one image.

    boxes:      (n, 4) float32  pixels of the network input
    class_ids:  (n,) int64      0 = background
    deltas:     (n, 4) float32  to the matched true box; meaningless for background
    attributes: (n, A) int64    of the matched true box; meaningless for background
    """

    boxes: Tensor
    class_ids: Tensor
    deltas: Tensor
    attributes: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Losses of a batch, with the numbers they were made of.

    samples:          of each image
    class_logits:     (S, C) float32, regions of the first image first
    attribute_logits: (P, M) float32 of the positive regions
    """

    losses: DetectorLosses
    samples: tuple[RegionSample, ...]
    class_logits: Tensor
    attribute_logits: Tensor


def detection_outcome(
    model: AttributeRCNN,
    c4: Tensor,
    sizes: Sequence[tuple[int, int]],
    truths: Sequence[Truth],
    training: DetectorTraining,
    generator_of: GeneratorOf,
    parts: int = 1,
) -> Outcome:
    """The five losses of a batch.

    Args:
        model: In training mode.
        c4: (B, C4, h, w) float32, from the model's trunk.
        sizes: B sizes of the network inputs without padding (height, width) [pixels].
        truths: What each image shows.
        training: Thresholds, sample sizes, weights.
        generator_of: Source of the samples.
        parts: In which regions get their features (`detector.training.parts`).

    Source: `specs/detector.md` 13.
    """
    with half_precision(training, c4.device):
        logits, deltas = model.rpn_head(c4)
    logits, deltas, c4 = logits.float(), deltas.float(), c4.float()
    anchors = model.anchors(c4)
    objectness, proposal_box, num_anchors = _proposal_losses(
        logits, deltas, anchors, sizes, truths, training, generator_of
    )
    with torch.no_grad():
        samples = _sampled(
            logits, deltas, anchors, sizes, truths, model.config, training, generator_of
        )
    judged = _judge(model, c4, samples, training, parts)
    losses = DetectorLosses(
        objectness=objectness,
        proposal_box=proposal_box,
        classifier=judged.classifier,
        box=judged.box,
        attribute=judged.attribute,
        counts=Counts(
            anchors=num_anchors,
            regions=len(judged.class_logits),
            positives=len(judged.attribute_logits),
        ),
    )
    return Outcome(
        losses=losses,
        samples=samples,
        class_logits=judged.class_logits,
        attribute_logits=judged.attribute_logits,
    )


def _sampled(
    logits: Tensor,
    deltas: Tensor,
    anchors: Tensor,
    sizes: Sequence[tuple[int, int]],
    truths: Sequence[Truth],
    config: DetectorConfig,
    training: DetectorTraining,
    generator_of: GeneratorOf,
) -> tuple[RegionSample, ...]:
    """Proposals of each image and its true boxes, as many as the heads learn from."""
    proposals = propose(
        logits,
        deltas,
        anchors,
        sizes,
        pre_nms_top_n=training.pre_nms_top_n,
        post_nms_top_n=training.post_nms_top_n,
        nms_overlap=config.proposal_nms_overlap,
        min_size=config.proposal_min_size,
    )
    return tuple(
        sample_regions(
            torch.cat((found.boxes, truth.boxes)),
            truth,
            config.box_weights,
            training,
            generator_of("regions", image),
        )
        for image, (found, truth) in enumerate(zip(proposals, truths, strict=True))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """What the heads say of sampled regions, and the losses of that."""

    class_logits: Tensor
    attribute_logits: Tensor
    classifier: Tensor
    box: Tensor
    attribute: Tensor


def _judge(
    model: AttributeRCNN,
    c4: Tensor,
    samples: Sequence[RegionSample],
    training: DetectorTraining,
    parts: int,
) -> _Judged:
    """Regions through the last stage and the heads; attributes of the positive ones alone."""
    boxes = [sample.boxes for sample in samples]
    with half_precision(training, c4.device):
        features = in_parts(
            lambda place: model.region_features(c4[place], boxes[place]), len(boxes), parts
        ).float()
    class_ids = torch.cat([sample.class_ids for sample in samples])
    class_logits, box_deltas = model.box_head(features)
    positive = torch.nonzero(class_ids > 0).flatten()
    attribute_logits = model.attribute_head(features[positive], class_ids[positive])
    attributes = torch.cat([sample.attributes for sample in samples])[positive]
    return _Judged(
        class_logits=class_logits,
        attribute_logits=attribute_logits,
        classifier=classifier_loss(class_logits, class_ids),
        box=box_loss(box_deltas, class_ids, torch.cat([sample.deltas for sample in samples])),
        attribute=attribute_loss(
            attribute_logits,
            attribute_targets(attributes, model.config.num_attributes),
            training.attribute_loss_weight,
        ),
    )


def half_precision(training: DetectorTraining, device: torch.device) -> torch.autocast:
    """In which convolutions compute in bfloat16, if asked for."""
    is_half = training.precision == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=is_half)


def sample_regions(
    boxes: Tensor,
    truth: Truth,
    box_weights: tuple[float, float, float, float],
    training: DetectorTraining,
    generator: Generator,
) -> RegionSample:
    """Choose what the box head learns from, among proposals and true boxes; order is kept.

    Args:
        boxes: (n, 4) float32 proposals, the true boxes at the end.
        truth: What the image shows.
        box_weights: Of the deltas.
        training: Thresholds and sample size.
        generator: Source of the choice.
    """
    matches = match_proposals(
        boxes,
        truth,
        foreground_overlap=training.region_foreground_overlap,
        background_overlap=training.region_background_overlap,
    )
    chosen = torch.cat(
        sample_balanced(
            matches.labels,
            number=training.regions_per_image,
            positive_fraction=training.region_positive_fraction,
            generator=generator,
        )
    ).sort()[0]
    matched = matches.matched[chosen]
    if len(truth.boxes) == 0:
        attributes = truth.attributes.new_zeros(len(chosen), truth.attributes.shape[1])
    else:
        attributes = truth.attributes[matched]
    return RegionSample(
        boxes=boxes[chosen],
        class_ids=matches.labels[chosen],
        deltas=deltas_to_truth(boxes[chosen], truth.boxes, matched, box_weights),
        attributes=attributes,
    )


def _proposal_losses(
    logits: Tensor,
    deltas: Tensor,
    anchors: Tensor,
    sizes: Sequence[tuple[int, int]],
    truths: Sequence[Truth],
    training: DetectorTraining,
    generator_of: GeneratorOf,
) -> tuple[Tensor, Tensor, int]:
    """Objectness and box loss of the proposal network over the batch; how many were sampled."""
    batch = len(truths)
    flat_logits = logits.permute(0, 2, 3, 1).reshape(batch, -1)
    flat_deltas = deltas.permute(0, 2, 3, 1).reshape(batch, -1, 4)
    sampled: list[Tensor] = []
    is_positive: list[Tensor] = []
    found: list[Tensor] = []
    wanted: list[Tensor] = []
    for image, (size, truth) in enumerate(zip(sizes, truths, strict=True)):
        matches = match_anchors(
            anchors,
            visible_anchors(anchors, *size),
            truth.boxes,
            foreground_overlap=training.anchor_foreground_overlap,
            background_overlap=training.anchor_background_overlap,
        )
        positives, negatives = sample_balanced(
            matches.labels,
            number=training.anchors_per_image,
            positive_fraction=training.anchor_positive_fraction,
            generator=generator_of("anchors", image),
        )
        chosen = torch.cat((positives, negatives))
        sampled.append(flat_logits[image, chosen])
        is_positive.append(matches.labels[chosen] == POSITIVE)
        found.append(flat_deltas[image, positives])
        wanted.append(
            deltas_to_truth(
                anchors[positives], truth.boxes, matches.matched[positives], RPN_WEIGHTS
            )
        )
    scores = torch.cat(sampled)
    return (
        objectness_loss(scores, torch.cat(is_positive)),
        proposal_box_loss(torch.cat(found), torch.cat(wanted), len(scores)),
        len(scores),
    )
