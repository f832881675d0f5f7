"""What the trainings of a run take: updates, time, memory, disk."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.config import PRETRAINING, Learning, RunConfig, TaskRun
from flows.dry_run.records import NOT_MEASURED, Estimate, Texts, some
from flows.dry_run.stopwatch import how_measured, speed_up
from flows.task_settings import typed_settings
from oscar_core.config import OscarConfig

if TYPE_CHECKING:
    from flows.dry_run.probe import Probe

WEIGHT_BYTES = 4
MOMENTS = 2
"""Numbers that Adam keeps beside each weight."""
PROCESS_BYTES = 1_300_000_000
"""Of a process with torch and open data; 1.0 to 1.3 GB in the demo and with the real photos."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One training, counted.

    rows_per_example: passes through the encoder that one example of a batch takes
    num_predicted:    passes of a prediction, without gradient; the controls included
    predicted:        what these passes are of, in words
    """

    step: str
    task: str
    settings: Any
    learning: Learning
    encoder: OscarConfig
    num_examples: int
    rows_per_example: int
    num_predicted: int
    steps_per_prediction: float
    predicted: str = ""

    @property
    def num_updates(self) -> int:
        """Of the whole training."""
        return self.learning.training.num_steps(self.num_examples)


def trainings(
    config: RunConfig, texts: Texts, corpus: Texts, encoder: OscarConfig
) -> Iterator[Training]:
    """Pretraining and every task of a run.

    Args:
        config: of the run.
        texts: what is said about its photos.
        corpus: what pretraining learns from; the same where no corpus is imported.
        encoder: sizes of the models.
    """
    if config.pretrain is not None:
        settings = typed_settings(PRETRAINING, config.pretrain.settings)
        yield Training(
            step="pretrain",
            task=PRETRAINING,
            settings=settings,
            learning=config.pretrain,
            encoder=encoder,
            num_examples=sum(
                _of(corpus.captions, "train", language) + _of(corpus.questions, "train", language)
                for language in settings.languages
            ),
            rows_per_example=1,
            num_predicted=0,
            steps_per_prediction=1,
        )
    for task, branch in config.tasks.items():
        yield _branch(task, branch, texts, encoder)


def problems(training: Training, config: RunConfig, *, are_counted: bool = True) -> Iterator[str]:
    """What would stop a training, or make it pointless; without texts where none are counted."""
    settings, chosen = training.settings, training.learning.training
    if are_counted and training.num_examples == 0:
        languages = getattr(settings, "languages", None) or (getattr(settings, "language", "?"),)
        yield (
            f"{training.step}: nothing to learn from: no training text in "
            f"{' or '.join(languages)}; see data.sources"
        )
    if are_counted and training.task != PRETRAINING and training.num_predicted == 0:
        yield f"{training.step}: nothing to judge it by in its test split; see data.auto_split"
    if settings.max_text > training.encoder.max_positions:
        yield (
            f"{training.step}: texts of {settings.max_text} wordpieces do not fit into "
            f"encoder.max_positions {training.encoder.max_positions}"
        )
    processes = num_processes(config)
    if chosen.batch_size < processes * chosen.accumulation:
        yield (
            f"{training.step}: a batch of {chosen.batch_size} cannot be divided among {processes} "
            f"processes in {chosen.accumulation} parts"
        )


def notes(training: Training) -> Iterator[str]:
    """What one should know."""
    chosen, updates = training.learning.training, training.num_updates
    if training.num_examples:
        passes = updates * chosen.batch_size / training.num_examples
        yield (
            f"{training.step}: {training.num_examples:,} examples; {updates:,} updates of "
            f"{chosen.batch_size:,} are {passes:,.1f} passes"
        )
    if chosen.checkpoint_every == 0:
        yield f"{training.step}: keeps no checkpoint (checkpoint_every 0); a stop starts it anew"


def unmeasured(training: Training, num_parameters: int) -> Iterator[Estimate]:
    """What arithmetic tells of a training and of its predictions: amounts and disk."""
    yield Estimate(
        step=_train_step(training),
        amount=_updates(training),
        disk_bytes=_disk_bytes(training, num_parameters * WEIGHT_BYTES),
        how=NOT_MEASURED,
    )
    if training.task != PRETRAINING:
        yield Estimate(
            step=f"{training.task}_predict", amount=_predictions(training), how=NOT_MEASURED
        )


def estimates(training: Training, found: "Probe", config: RunConfig) -> Iterator[Estimate]:
    """Time, memory and disk of a training and of its predictions."""
    chosen, processes = training.learning.training, num_processes(config)
    rows = chosen.batch_size * training.rows_per_example
    at_once = rows_at_once(training, config)
    faster = speed_up(config, processes)
    seconds = (rows * found.row_seconds + processes * found.update_seconds) / faster
    is_known = _is_known(training)
    weights = found.num_parameters * WEIGHT_BYTES
    how = "rows of full length"
    yield Estimate(
        step=_train_step(training),
        amount=_updates(training),
        seconds=training.num_updates * seconds if is_known else None,
        memory_bytes=PROCESS_BYTES
        + weights
        + _stored_bytes(training, weights)
        + at_once * found.row_bytes,
        disk_bytes=_disk_bytes(training, weights),
        how=f"{how_measured(config, processes)}, {how}",
    )
    if training.task != PRETRAINING:
        looks = training.num_predicted * training.steps_per_prediction
        yield Estimate(
            step=f"{training.task}_predict",
            amount=_predictions(training),
            seconds=looks * found.look_seconds / speed_up(config) if is_known else None,
            memory_bytes=PROCESS_BYTES + weights,
            how=f"{how_measured(config)}, {how}",
        )


def rows_at_once(training: Training, config: RunConfig) -> int:
    """Rows that one process computes at once."""
    chosen = training.learning.training
    rows = chosen.batch_size * training.rows_per_example
    return math.ceil(rows / num_processes(config) / chosen.accumulation)


def num_processes(config: RunConfig) -> int:
    """That share a training."""
    scale = config.scale
    return scale.workers * scale.nodes if scale.engine == "torchrun" else 1


def fits(estimate: Estimate, available: int | None, processes: int) -> str:
    """What to do about a training that needs more memory than there is; "" where it fits."""
    if available is None or estimate.memory_bytes * processes <= available:
        return ""
    needed, fewer = gigabytes(estimate.memory_bytes * processes), ""
    if processes > 1:
        needed += f", {gigabytes(estimate.memory_bytes)} in each of {processes} processes,"
        fewer = ", or take fewer processes here (--set scale.workers=N)"
    return (
        f"{estimate.step}: needs about {needed} and {gigabytes(available)} are free; raise "
        f"training.accumulation (the same result in smaller parts), lower batch_size{fewer}"
    )


def lack_of_room(estimates: Sequence[Estimate], out: Path, free: int) -> str:
    """What to do where a run may need more disk than is free; "" where it fits."""
    needed = sum(each.disk_bytes for each in estimates)
    if needed <= free:
        return ""
    return (
        f"{out}: {gigabytes(free)} are free, up to {gigabytes(needed)} are needed; make room or "
        "choose another place with --out"
    )


def gigabytes(number: int) -> str:
    """Bytes for people."""
    if number < 10**9:
        return f"{math.ceil(number / 10**6)} MB"
    return f"{number / 10**9:,.1f} GB"


def _train_step(training: Training) -> str:
    return training.step if training.task == PRETRAINING else f"{training.task}_train"


def _is_known(training: Training) -> bool:
    """Whether its length is: given, or following from examples that could be counted."""
    return training.num_examples > 0 or training.learning.training.steps is not None


def _updates(training: Training) -> str:
    num = f"{training.num_updates:,}" if _is_known(training) else "?"
    rows = training.learning.training.batch_size * training.rows_per_example
    return f"{num} updates of {rows:,} rows"


def _predictions(training: Training) -> str:
    """How many, of what, and how often that is."""
    controls = len(getattr(training.learning, "controls", ()))
    often = f", {controls} control{'s' * (controls > 1)} included" if controls else ""
    return f"{some(training.num_predicted)} {training.predicted}{often}"


def _stored_bytes(training: Training, weights: int) -> int:
    """Of one checkpoint, for weights of that many bytes."""
    return weights * (1 + (training.learning.training.ema > 0) + MOMENTS)


def _disk_bytes(training: Training, weights: int) -> int:
    """The model and its checkpoints."""
    kept = training.learning.training.keep_last + 1
    return weights + _stored_bytes(training, weights) * kept


def _branch(task: str, branch: TaskRun, texts: Texts, encoder: OscarConfig) -> Training:
    settings = typed_settings(task, branch.settings)
    language = settings.language
    rows, predicted, steps, name = 1, 0, 1.0, "questions"
    if task == "captioning":
        examples = _of(texts.captions, "train", language)
        predicted, name = _of(texts.captioned, branch.split, language), "photos"
        # a first look at everything, then two new positions a word and beam
        length = settings.max_text + settings.view.max_regions
        steps = 1 + settings.max_length * settings.num_beams * 2 / length
    elif task == "retrieval":
        examples = _of(texts.captions, "train", language)
        rows = settings.group_size**2 if settings.group_size else 2
        images = _of(texts.captioned, branch.split, language)
        images = min(images, settings.num_images or images)
        told = min(images * settings.num_captions, _of(texts.captions, branch.split, language))
        predicted, name = images * told, "pairs of photo and text"
    else:
        examples = _of(texts.questions, "train", language)
        predicted = _of(texts.questions, branch.split, language)
    return Training(
        step=f"tasks.{task}",
        task=task,
        settings=settings,
        learning=branch,
        encoder=encoder,
        num_examples=examples,
        rows_per_example=rows,
        num_predicted=predicted * (1 + len(branch.controls)),
        steps_per_prediction=steps,
        predicted=name,
    )


def _of(counts: Mapping[tuple[str, str], int], split: str, language: str) -> int:
    return counts.get((split, language), 0)
