"""The parts of a training: windows around true boxes, if asked for, then detection."""

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from detector.model import AttributeRCNN
from detector.training.ahead import Ahead
from detector.training.batches import Batches
from detector.training.config import CropWarmup, DetectorTraining
from detector.training.objective import detection_outcome, half_precision
from detector.training.parts import in_parts
from detector.training.photos import TrainingPhotos
from detector.training.sampling import generator_for
from detector.training.schedule import build_optimiser, crop_rate, detection_rate
from detector.training.together import Together
from detector.training.windows import WindowPlan, plan_windows, window_losses


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A loss over this process's part of a batch.

    value:  scalar, a mean
    weight: what the mean runs over; 0 where nothing of the batch is here
    """

    value: Tensor
    weight: int


class Phase(Protocol):
    """One part of a training: builds its optimiser, takes its steps."""

    name: str
    num_steps: int

    def optimiser(self) -> Optimizer:
        """Called once, before the first step that is taken."""
        ...

    def rate(self, step: int) -> float:
        """Learning rate of a step (0-based, of this phase)."""
        ...

    def losses(self, step: int) -> dict[str, Share]:
        """Losses of this process's share of the step's batch; everybody names the same ones."""
        ...

    def close(self) -> None:
        """No step follows."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What every phase of a training works on.

    model:    what learns
    photos:   what it learns from
    training: how
    together: the processes that learn together
    parts:    in which a batch goes through the network (`detector.training.parts`)
    """

    model: AttributeRCNN
    photos: TrainingPhotos
    training: DetectorTraining
    together: Together
    parts: int


def phases_of(ground: Ground) -> list[Phase]:
    """What a training consists of, in order."""
    phases: list[Phase] = []
    warmup = ground.training.crop_warmup
    if warmup is not None and warmup.num_steps > 0:
        phases.append(_WindowPhase(ground, warmup))
    phases.append(_DetectionPhase(ground))
    return phases


class _WindowPhase:
    name = "windows"

    def __init__(self, ground: Ground, warmup: CropWarmup) -> None:
        self._ground, self._warmup = ground, warmup
        self._plan: WindowPlan | None = None
        self.num_steps = warmup.num_steps

    def optimiser(self) -> Optimizer:
        training = self._ground.training
        self._plan = plan_windows(self._ground.photos, self._warmup, training.seed)
        return build_optimiser(replace(training, optimiser="adamw"), self._ground.model)

    def rate(self, step: int) -> float:
        return crop_rate(self._warmup.learning_rate, step, self.num_steps)

    def losses(self, step: int) -> dict[str, Share]:
        assert self._plan is not None, "optimiser() comes first"
        ground = self._ground
        windows = self._plan.cut(ground.photos, step, ground.together)
        if len(windows.class_ids) == 0:
            return _nothing(("classifier", "attribute"))
        classifier, attribute = window_losses(
            ground.model, windows, self._warmup.attribute_loss_weight, ground.parts
        )
        weight = len(windows.class_ids)
        return {
            "classifier": Share(value=classifier, weight=weight),
            "attribute": Share(value=attribute, weight=weight),
        }

    def close(self) -> None:
        self._plan = None


class _DetectionPhase:
    name = "detection"

    def __init__(self, ground: Ground) -> None:
        photos, training = ground.photos, ground.training
        self._ground = ground
        self._batches = Batches(photos, ground.model, training, ground.together)
        # what lies in memory is there at once; the rest is read while the step before computes
        lookahead = 0 if photos.are_in_memory or training.cache_trunk else training.batches_ahead
        self._ahead = Ahead(self._batches.at, training.num_steps, lookahead)
        self.num_steps = training.num_steps

    def optimiser(self) -> Optimizer:
        return build_optimiser(self._ground.training, self._ground.model)

    def rate(self, step: int) -> float:
        return detection_rate(self._ground.training, step)

    def losses(self, step: int) -> dict[str, Share]:
        batch = self._ahead.at(step)
        if len(batch.truths) == 0:
            return _nothing(("objectness", "proposal_box", "classifier", "box", "attribute"))
        training, parts = self._ground.training, self._ground.parts
        inputs = batch.inputs.contiguous(memory_format=torch.channels_last)
        with half_precision(training, inputs.device):
            c4 = in_parts(lambda place: self._maps(inputs[place]), len(inputs), parts)
        losses = detection_outcome(
            self._ground.model,
            c4,
            batch.sizes,
            batch.truths,
            training,
            lambda purpose, image: generator_for(
                training.seed, purpose, step, batch.positions[image]
            ),
            parts,
        ).losses
        weights = losses.weights()
        return {
            name: Share(value=value, weight=weights[name]) for name, value in losses.parts().items()
        }

    def close(self) -> None:
        self._ahead.close()

    def _maps(self, inputs: Tensor) -> Tensor:
        """What is left of the trunk: (B, C4, h, w)."""
        for part in self._ground.model.trunk.parts()[self._batches.first_part :]:
            inputs = part(inputs)
        return inputs


def _nothing(names: tuple[str, ...]) -> dict[str, Share]:
    """Losses of a process that has no image of the batch."""
    return {name: Share(value=torch.zeros(()), weight=0) for name in names}
