"""Where a training begins or goes on: the same in every process."""

from pathlib import Path
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel

from oscar_core.encoder import OscarEncoder
from oscar_core.errors import TrainingError
from oscar_core.training.checkpoints import Place, load_checkpoint
from oscar_core.training.config import TrainingConfig
from oscar_core.training.learner import Learner, gathered, new_learner, spread_over
from oscar_core.training.lesson import Lesson
from oscar_core.training.sharding import shard_layers
from oscar_core.training.together import Together


def begin(
    lesson: Lesson,
    training: TrainingConfig,
    model: nn.Module,
    together: Together,
    checkpoints: Path,
) -> tuple[Learner, Place]:
    """Take over the newest checkpoint, share it, and divide it among the processes if asked.

    Args:
        lesson: Its identity must be that of the checkpoint.
        training: How it is learned.
        model: Moved to this process's device, in place.
        together: The processes.
        checkpoints: Their folder.

    Raises:
        TrainingError: A checkpoint does not fit, or so many processes cannot train like this.
    """
    _check(training, together)
    model.to(together.device)
    if training.gradient_checkpointing:
        cast(PreTrainedModel, model).activation_checkpointing_enable()
    learner = new_learner(model, training)
    at = Place(identity=lesson.identity)
    if together.writes:
        at = load_checkpoint(checkpoints, learner, lesson.identity)
    at = together.share_beginning(learner, at)
    if training.sharding == "fsdp2":
        learner = _sharded(learner, training, together)
    return learner, at


def _check(training: TrainingConfig, together: Together) -> None:
    if training.compat.clips_every_part and together.num > 1:
        raise TrainingError("compat.clips_every_part is for one process; clip once, or train alone")
    if training.sharding != "none" and training.batch_size < together.num * training.accumulation:
        raise TrainingError(
            f"sharding {training.sharding}: {together.num} processes with "
            f"{training.accumulation} parts each need a batch_size of at least "
            f"{together.num * training.accumulation}, not {training.batch_size}"
        )


@torch.no_grad()
def _sharded(learner: Learner, training: TrainingConfig, together: Together) -> Learner:
    """The same learner with the weights of its encoder's layers divided among the processes."""
    before, ages, scale = gathered(learner), learner.ages(), learner.scale.state()
    encoder = cast(OscarEncoder, learner.model.encoder)
    shard_layers(encoder.layers, together.device, together.num)
    divided = new_learner(learner.model, training)
    divided.remember(ages)
    divided.scale.restore(scale)
    spread_over(before, divided)
    return divided
