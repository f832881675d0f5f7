"""Trains a detector: a phase of windows, if asked for, then detection; goes on after a stop.

Every random choice follows from the seed and the number of the step, and a checkpoint holds what
else a step depends on, so a run that was stopped and goes on ends with the same weights.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from detector.checkpoints import NAMES, save_detector
from detector.config import DetectorConfig
from detector.errors import DetectorError, DetectorStoppedError
from detector.model import AttributeRCNN
from detector.training.batches import Batches
from detector.training.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    remove_checkpoint,
    trim_history,
    write_checkpoint,
)
from detector.training.config import DetectorTraining
from detector.training.objective import detection_outcome
from detector.training.parts import in_parts
from detector.training.photos import TrainingPhotos
from detector.training.sampling import generator_for
from detector.training.schedule import (
    build_optimiser,
    crop_rate,
    detection_rate,
    set_rate,
)
from detector.training.windows import WindowPlan, plan_windows, window_losses
from storage.published.label_maps import LabelMap
from storage.records import ImageObjects, ImageSource, Quarantined
from storage.trained import TRAINED, read_trained, write_trained


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One finished step.

    step:      from 1, both phases counted together
    phase:     "windows" or "detection"
    losses:    name -> value, with "total"
    """

    step: int
    num_steps: int
    phase: str
    losses: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSummary:
    """What was trained on: num_photos = used; the quarantined ones had boxes but no use."""

    num_photos: int
    num_objects: int
    num_steps: int
    quarantined: tuple[Quarantined, ...]
    last_losses: Mapping[str, float]


class _Phase(Protocol):
    """One part of a training: builds its optimiser, takes its steps."""

    name: str
    num_steps: int

    def optimiser(self) -> Optimizer: ...

    def rate(self, step: int) -> float: ...

    def losses(self, step: int) -> dict[str, Tensor]: ...


def train_detector(
    *,
    config: DetectorConfig,
    training: DetectorTraining,
    sources: Sequence[ImageSource],
    objects: Sequence[ImageObjects],
    label_map: LabelMap,
    folder: Path,
    losses: Path,
    initialise: Callable[[AttributeRCNN], None] | None = None,
    on_photo: Callable[[int, int], None] | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    parts: int = 1,
) -> TrainingSummary:
    """Train and write a detector; goes on from the checkpoint beside `losses`, if there is one.

    Does nothing where all that is done already (`storage.trained`, beside `folder`).

    Args:
        config: The network; its numbers of classes and attributes are those of the label map.
        training: How.
        sources: The photos.
        objects: What they show, joined by image id; photos without are left out.
        label_map: Names that are learned.
        folder: Where the detector goes (`detector.checkpoints`).
        losses: JSON lines {"step", "total", ...}, one a step; the checkpoint lies beside it until
            the detector is written.
        initialise: Gives the new network weights to start from; None leaves the random ones.
        on_photo: Told (done, total) while photos are read.
        on_step: Told of every step.
        should_stop: Asked after every step; True writes a checkpoint and ends.
        parts: In which a batch goes through the network, to need less memory for the same losses
            (`detector.training.parts`). A run may go on with another number of them.

    Raises:
        DetectorError: No photo to learn from, a loss that is no number, a checkpoint of another
            run, parts of a batch whose statistics are live.
        DetectorStoppedError: `should_stop` said so.
        CheckpointError: What `initialise` raises where its weights do not fit.
    """
    if parts > 1 and config.norm == "batch":
        raise DetectorError("live statistics are those of a whole batch: it cannot be in parts")
    config = config.with_labels(
        num_classes=len(label_map.class_names), num_attributes=len(label_map.attribute_names)
    )
    photos = TrainingPhotos(
        sources,
        objects,
        label_map,
        config,
        cache_bytes=training.pixel_cache_bytes,
        on_photo=on_photo,
    )
    model = _fresh_model(config, training.seed)
    phases = _phases(model, photos, training, parts)
    has_weights = initialise is not None
    identity = _identity(config, training, photos, label_map, has_weights=has_weights)
    mark, files = folder.parent / TRAINED, [folder / name for name in NAMES]
    last = read_trained(mark, identity, files)
    if last is None:
        if initialise is not None:
            initialise(model)
        model.to(memory_format=torch.channels_last)  # a small trunk takes 0.6 to 0.8 of the time
        hold_still(model, training)
        losses.parent.mkdir(parents=True, exist_ok=True)
        last = _run(model, phases, training, losses, identity, on_step, should_stop)
        save_detector(folder, model.eval(), label_map)
        write_trained(mark, identity, last, files)
    remove_checkpoint(losses.parent)
    return TrainingSummary(
        num_photos=len(photos),
        num_objects=sum(len(photo.truth.boxes) for photo in photos.photos),
        num_steps=sum(phase.num_steps for phase in phases),
        quarantined=tuple(photos.quarantined),
        last_losses=last,
    )


def hold_still(model: AttributeRCNN, training: DetectorTraining) -> None:
    """Training mode, without gradient and live statistics in the frozen parts."""
    model.train()
    still: list[nn.Module] = list(model.trunk.parts()[: training.frozen_stages])
    if training.freeze_res5:
        still.append(model.res5)
    for part in still:
        part.eval()
        part.requires_grad_(False)


def _run(
    model: AttributeRCNN,
    phases: Sequence[_Phase],
    training: DetectorTraining,
    losses: Path,
    identity: str,
    on_step: Callable[[StepReport], None] | None,
    should_stop: Callable[[], bool],
) -> dict[str, float]:
    """All steps that are not done yet; the losses of the last one."""
    num_steps = sum(phase.num_steps for phase in phases)
    resumed = latest_checkpoint(losses.parent, identity)
    done = resumed.step if resumed is not None else 0
    trim_history(losses, done)
    if resumed is not None:
        model.load_state_dict(dict(resumed.model))
    numbers: dict[str, float] = {}
    first = 0
    with losses.open("a", encoding="utf-8") as history:
        for phase in phases:
            end = first + phase.num_steps
            if done < end:
                optimiser = phase.optimiser()
                if resumed is not None and resumed.step > first:
                    optimiser.load_state_dict(dict(resumed.optimiser))
                for step in range(max(done, first), end):
                    numbers = _step(model, phase, optimiser, step - first, training)
                    report = StepReport(
                        step=step + 1, num_steps=num_steps, phase=phase.name, losses=numbers
                    )
                    history.write(json.dumps({"step": step + 1, "phase": phase.name} | numbers))
                    history.write("\n")
                    is_stopped = should_stop() and step + 1 < num_steps
                    is_due = (step + 1) % training.checkpoint_every == 0
                    if is_stopped or (is_due and step + 1 < num_steps):
                        history.flush()
                        _keep(losses.parent, model, optimiser, step + 1, step + 1 < end, identity)
                    if on_step is not None:
                        on_step(report)
                    if is_stopped:
                        raise DetectorStoppedError(f"stopped after step {step + 1} of {num_steps}")
            first = end
    return numbers


def _step(
    model: AttributeRCNN,
    phase: _Phase,
    optimiser: Optimizer,
    step: int,
    training: DetectorTraining,
) -> dict[str, float]:
    """One update; the losses before it."""
    set_rate(optimiser, phase.rate(step))
    parts = phase.losses(step)
    total = torch.stack(list(parts.values())).sum()
    optimiser.zero_grad(set_to_none=True)
    if total.requires_grad:
        total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    if training.gradient_clip > 0:
        nn.utils.clip_grad_norm_(model.parameters(), training.gradient_clip)
    optimiser.step()
    numbers = {name: round(float(part.detach()), 6) for name, part in parts.items()}
    numbers["total"] = round(float(total.detach()), 6)
    if not math.isfinite(numbers["total"]):
        raise DetectorError(
            f"the {phase.name} loss is {numbers['total']} at step {step + 1}; lower "
            "`learning_rate` or set `gradient_clip`"
        )
    return numbers


class _WindowPhase:
    name = "windows"

    def __init__(
        self, model: AttributeRCNN, photos: TrainingPhotos, training: DetectorTraining, parts: int
    ) -> None:
        assert training.crop_warmup is not None
        self._model, self._photos, self._training = model, photos, training
        self._parts = parts
        self._warmup = training.crop_warmup
        self._plan: WindowPlan | None = None
        self.num_steps = self._warmup.num_steps

    def optimiser(self) -> Optimizer:
        self._plan = plan_windows(self._photos, self._warmup, self._training.seed)
        return build_optimiser(replace(self._training, optimiser="adamw"), self._model)

    def rate(self, step: int) -> float:
        return crop_rate(self._warmup.learning_rate, step, self.num_steps)

    def losses(self, step: int) -> dict[str, Tensor]:
        assert self._plan is not None, "optimiser() comes first"
        classifier, attribute = window_losses(
            self._model,
            self._plan.cut(self._photos, step),
            self._warmup.attribute_loss_weight,
            self._parts,
        )
        return {"classifier": classifier, "attribute": attribute}


class _DetectionPhase:
    name = "detection"

    def __init__(
        self, model: AttributeRCNN, photos: TrainingPhotos, training: DetectorTraining, parts: int
    ) -> None:
        self._model, self._training, self._parts = model, training, parts
        self._batches = Batches(photos, model, training)
        self.num_steps = training.num_steps

    def optimiser(self) -> Optimizer:
        self._batches.compute_maps()
        return build_optimiser(self._training, self._model)

    def rate(self, step: int) -> float:
        return detection_rate(self._training, step)

    def losses(self, step: int) -> dict[str, Tensor]:
        batch = self._batches.at(step)
        inputs = batch.inputs.contiguous(memory_format=torch.channels_last)
        outcome = detection_outcome(
            self._model,
            in_parts(lambda place: self._maps(inputs[place]), len(inputs), self._parts),
            batch.sizes,
            batch.truths,
            self._training,
            lambda purpose, image: generator_for(self._training.seed, purpose, step, image),
            self._parts,
        )
        return outcome.losses.parts()

    def _maps(self, inputs: Tensor) -> Tensor:
        """What is left of the trunk: (B, C4, h, w)."""
        for part in self._model.trunk.parts()[self._batches.first_part :]:
            inputs = part(inputs)
        return inputs


def _phases(
    model: AttributeRCNN, photos: TrainingPhotos, training: DetectorTraining, parts: int
) -> list[_Phase]:
    phases: list[_Phase] = []
    if training.crop_warmup is not None and training.crop_warmup.num_steps > 0:
        phases.append(_WindowPhase(model, photos, training, parts))
    phases.append(_DetectionPhase(model, photos, training, parts))
    return phases


def _fresh_model(config: DetectorConfig, seed: int) -> AttributeRCNN:
    """A model whose random weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AttributeRCNN(config)


def _keep(
    folder: Path,
    model: AttributeRCNN,
    optimiser: Optimizer,
    step: int,
    is_inside_phase: bool,
    identity: str,
) -> None:
    write_checkpoint(
        folder,
        Checkpoint(
            step=step,
            identity=identity,
            model=model.state_dict(),
            optimiser=optimiser.state_dict() if is_inside_phase else {},
        ),
    )


def _identity(
    config: DetectorConfig,
    training: DetectorTraining,
    photos: TrainingPhotos,
    label_map: LabelMap,
    *,
    has_weights: bool,
) -> str:
    """Whatever the weights follow from, hashed."""
    digest = hashlib.sha256(repr((config, training, has_weights)).encode())
    digest.update(repr((label_map.class_names, label_map.attribute_names)).encode())
    for photo in photos.photos:
        digest.update(f"{photo.source.image_id}\0{photo.size}".encode())
        digest.update(photo.truth.boxes.numpy().tobytes())
        digest.update(photo.truth.class_ids.numpy().tobytes())
        digest.update(photo.truth.attributes.numpy().tobytes())
    return digest.hexdigest()
