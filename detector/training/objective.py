"""From a batch of network inputs with their truth to the five losses.

Letters: B images, K anchors of one image, A anchors per cell, S sampled boxes of the batch,
C classes with background.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from detector.model import AttributeRCNN
from detector.training.config import DetectorTraining
from detector.training.losses import (
    DetectorLosses,
    attribute_loss,
    box_loss,
    classifier_loss,
    objectness_loss,
    proposal_box_loss,
)
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
