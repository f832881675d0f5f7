"""Trains a detector: a phase of windows, if asked for, then detection; goes on after a stop.

Every random choice follows from the seed and the number of the step, and a checkpoint holds what
else a step depends on, so a run that was stopped and goes on ends with the same weights.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from detector.checkpoints import CONFIG_NAME, LABELS_NAME, WEIGHTS_NAME, save_detector
from detector.config import DetectorConfig
from detector.errors import DetectorError, DetectorStoppedError
from detector.model import AttributeRCNN
from detector.training.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    remove_checkpoint,
    trim_history,
    write_checkpoint,
)
from detector.training.config import DetectorTraining
from detector.training.phases import Ground, Phase, Share, phases_of
from detector.training.photos import TrainingPhotos
from detector.training.schedule import set_rate
from detector.training.start import Started
from detector.training.together import Together
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
    started: Started


def train_detector(
    *,
    config: DetectorConfig,
    training: DetectorTraining,
    sources: Sequence[ImageSource],
    objects: Sequence[ImageObjects],
    label_map: LabelMap,
    folder: Path,
    losses: Path,
    initialise: Callable[[AttributeRCNN], Started] | None = None,
    on_photo: Callable[[int, int], None] | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    parts: int = 1,
    together: Together | None = None,
) -> TrainingSummary:
    """Train and write a detector; goes on from the checkpoint beside `losses`, if there is one.

    Does nothing where all that is done already (`storage.trained`, beside `folder`). Processes that
    train together call this alike; what each step computes is what one process would compute, but
    for rounding.

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
        together: The processes that train together, joined already; None for this one alone. A run
            may go on with another number of them.

    Raises:
        DetectorError: No photo to learn from, a loss that is no number, a checkpoint of another
            run, parts of a batch whose statistics are live, fewer images in a batch than processes.
        DetectorStoppedError: `should_stop` said so.
        CheckpointError: What `initialise` raises where its weights do not fit.
    """
    together = together or Together()
    _check_divisible(config, training, parts, together)
    config = config.with_labels(
        num_classes=len(label_map.class_names), num_attributes=len(label_map.attribute_names)
    )
    photos = TrainingPhotos(
        sources,
        objects,
        label_map,
        training_input(config, training),
        cache_bytes=training.pixel_cache_bytes,
        on_photo=on_photo,
    )
    model = _fresh_model(config, training.seed)
    started = Started() if initialise is None else initialise(model)
    course = _Course(
        ground=Ground(
            model=model, photos=photos, training=training, together=together, parts=parts
        ),
        losses=losses,
        identity=_identity(config, training, photos, label_map, start=started.digest),
    )
    last = _learnt(course, folder, label_map, on_step, should_stop)
    if together.writes:
        remove_checkpoint(losses.parent)
    return _summary(course.ground, started, last)


def _learnt(
    course: "_Course",
    folder: Path,
    label_map: LabelMap,
    on_step: Callable[[StepReport], None] | None,
    should_stop: Callable[[], bool],
) -> Mapping[str, float]:
    """Take the steps and write the detector, unless all that is done; the last step's losses."""
    ground = course.ground
    mark = folder.parent / TRAINED
    files = [folder / name for name in (CONFIG_NAME, LABELS_NAME, WEIGHTS_NAME)]
    last = read_trained(mark, course.identity, files) if ground.together.writes else {}
    if ground.together.any_says(last is None):
        # a small trunk takes 0.6 to 0.8 of the time in this layout
        ground.model.to(ground.together.device).to(memory_format=torch.channels_last)
        hold_still(ground.model, ground.training)
        last = course.run(on_step, should_stop)
        if ground.together.writes:
            save_detector(folder, ground.model.eval(), label_map)
            write_trained(mark, course.identity, last, files)
    assert last is not None
    return last


def _summary(ground: Ground, started: Started, last: Mapping[str, float]) -> TrainingSummary:
    """What there is to tell afterwards."""
    photos, warmup = ground.photos, ground.training.crop_warmup
    set_aside = _quarantined(photos, ground.together)
    return TrainingSummary(
        num_photos=len(photos) - (len(set_aside) - photos.num_unusable),
        num_objects=sum(len(photo.truth.boxes) for photo in photos.photos),
        num_steps=ground.training.num_steps + (0 if warmup is None else warmup.num_steps),
        quarantined=tuple(set_aside),
        last_losses=last,
        started=started,
    )


def training_input(config: DetectorConfig, training: DetectorTraining) -> DetectorConfig:
    """The network's settings with the size that photos have in training."""
    return replace(
        config,
        min_size=training.min_size or config.min_size,
        max_size=training.max_size or config.max_size,
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


@dataclass(slots=True, kw_only=True)
class _Course:
    """A training on its way.

    moments: the optimiser of the phase the next step belongs to; None where that phase begins
    """

    ground: Ground
    losses: Path
    identity: str
    moments: Optimizer | None = None

    def run(
        self, on_step: Callable[[StepReport], None] | None, should_stop: Callable[[], bool]
    ) -> dict[str, float]:
        """All steps that are not done yet; the losses of the last one."""
        begun = self._beginning()
        numbers: dict[str, float] = {}
        first = 0
        phases = phases_of(self.ground)
        num_steps = sum(each.num_steps for each in phases)
        with self._history() as history:
            for phase in phases:
                try:
                    for report in self._steps(phase, first, num_steps, begun):
                        numbers = dict(report.losses)
                        line = {"step": report.step, "phase": phase.name} | numbers
                        history.write(json.dumps(line) + "\n")
                        is_last = report.step == report.num_steps
                        is_stopped = self.ground.together.any_says(should_stop()) and not is_last
                        is_due = report.step % self.ground.training.checkpoint_every == 0
                        if is_stopped or (is_due and not is_last):
                            history.flush()
                            self._keep(report.step)
                        if on_step is not None:
                            on_step(report)
                        if is_stopped:
                            raise DetectorStoppedError(
                                f"stopped after step {report.step} of {report.num_steps}"
                            )
                finally:
                    phase.close()
                first += phase.num_steps
        return numbers

    def _steps(
        self, phase: Phase, first: int, num_steps: int, begun: Checkpoint
    ) -> Iterator[StepReport]:
        """The steps of a phase that are not done yet, each told when it is taken."""
        end = first + phase.num_steps
        if begun.step >= end:
            return
        optimiser = phase.optimiser()
        if begun.step > first:
            optimiser.load_state_dict(dict(begun.optimiser))
        for step in range(max(begun.step, first), end):
            numbers = self._step(phase, optimiser, step - first)
            # moments belong to the phase: the next one begins without
            self.moments = optimiser if step + 1 < end else None
            yield StepReport(step=step + 1, num_steps=num_steps, phase=phase.name, losses=numbers)

    def _beginning(self) -> Checkpoint:
        """The newest checkpoint, or the start; the model and the history are brought there."""
        folder = self.losses.parent
        if self.ground.together.writes:
            folder.mkdir(parents=True, exist_ok=True)
        found = (
            latest_checkpoint(folder, self.identity) if self.ground.together.number == 0 else None
        )
        if found is None and self.ground.together.num == 1:
            trim_history(self.losses, 0)
            return Checkpoint(step=0, identity=self.identity, model={}, optimiser={})
        begun = self.ground.together.share_beginning(
            found
            or Checkpoint(
                step=0, identity=self.identity, model=self.ground.model.state_dict(), optimiser={}
            )
        )
        if begun.identity != self.identity:
            raise DetectorError(
                "the processes of this training see other settings, photos or weights than "
                "process 0; give every machine the same"
            )
        self.ground.model.load_state_dict(dict(begun.model))
        if self.ground.together.writes:
            trim_history(self.losses, begun.step)
        return begun

    def _history(self) -> IO[str]:
        """Where the losses of each step go; nowhere in a process that does not write."""
        if not self.ground.together.writes:
            return open(os.devnull, "w", encoding="utf-8")
        return self.losses.open("a", encoding="utf-8")

    def _step(self, phase: Phase, optimiser: Optimizer, step: int) -> dict[str, float]:
        """One update; the losses of the whole batch before it."""
        set_rate(optimiser, phase.rate(step))
        parts = _of_the_whole(phase.losses(step), self.ground.together)
        total = torch.stack(list(parts.values())).sum()
        optimiser.zero_grad(set_to_none=True)
        if total.requires_grad:
            total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.ground.together.sum_gradients(self.ground.model.parameters())
        if self.ground.training.gradient_clip > 0:
            nn.utils.clip_grad_norm_(
                self.ground.model.parameters(), self.ground.training.gradient_clip
            )
        optimiser.step()
        mine = [float(each.detach()) for each in (*parts.values(), total)]
        values = self.ground.together.summed(mine)
        numbers = {
            name: round(value, 6) for name, value in zip((*parts, "total"), values, strict=True)
        }
        if not math.isfinite(numbers["total"]):
            raise DetectorError(
                f"the {phase.name} loss is {numbers['total']} at step {step + 1}; lower "
                "`learning_rate` or set `gradient_clip`"
            )
        return numbers

    def _keep(self, step: int) -> None:
        """Write a checkpoint."""
        if self.ground.together.writes:
            write_checkpoint(
                self.losses.parent,
                Checkpoint(
                    step=step,
                    identity=self.identity,
                    model=self.ground.model.state_dict(),
                    optimiser=self.moments.state_dict() if self.moments is not None else {},
                ),
            )


def _of_the_whole(shares: Mapping[str, Share], together: Together) -> dict[str, Tensor]:
    """Losses of this process's images, so weighted that all processes' add up to the batch's."""
    if together.num == 1:
        return {name: share.value for name, share in shares.items()}
    weights = together.summed([float(share.weight) for share in shares.values()])
    return {
        name: share.value * (share.weight / max(weight, 1.0))
        for (name, share), weight in zip(shares.items(), weights, strict=True)
    }


def _check_divisible(
    config: DetectorConfig, training: DetectorTraining, parts: int, together: Together
) -> None:
    """Refuse to divide what cannot be divided."""
    if config.norm == "batch" and (parts > 1 or together.num > 1):
        raise DetectorError("live statistics are those of a whole batch: it cannot be in parts")
    if training.images_per_step < together.num:
        raise DetectorError(
            f"{together.num} processes train together, a step has {training.images_per_step} "
            "image(s); raise `images_per_step` (and `learning_rate` with it), or start fewer"
        )


def _quarantined(photos: TrainingPhotos, together: Together) -> list[Quarantined]:
    """What any of the processes set aside; all looked at the same photos before they began."""
    mine = [asdict(each) for each in photos.quarantined]
    found = [Quarantined(**row) for each in together.gathered({"q": mine}) for row in each["q"]]
    return list({(each.image_id, each.reason): each for each in found}.values())


def _fresh_model(config: DetectorConfig, seed: int) -> AttributeRCNN:
    """A model whose random weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AttributeRCNN(config)


def _identity(
    config: DetectorConfig,
    training: DetectorTraining,
    photos: TrainingPhotos,
    label_map: LabelMap,
    *,
    start: str,
) -> str:
    """Whatever the weights follow from, hashed; `start` stands for the weights it began with."""
    digest = hashlib.sha256(repr((config, training, start)).encode())
    digest.update(repr((label_map.class_names, label_map.attribute_names)).encode())
    for photo in photos.photos:
        digest.update(f"{photo.source.image_id}\0{photo.size}".encode())
        digest.update(photo.truth.boxes.numpy().tobytes())
        digest.update(photo.truth.class_ids.numpy().tobytes())
        digest.update(photo.truth.attributes.numpy().tobytes())
    return digest.hexdigest()
