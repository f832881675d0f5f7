"""Trains, predicts and scores any task: what the stages of the flow call."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from oscar_core.config import EncoderSettings, OscarConfig
from oscar_core.encoder import OscarEncoder
from oscar_core.errors import WeightsError
from oscar_core.model_folder import (
    FILES,
    StoredModel,
    read_model,
    write_model,
)
from oscar_core.published.weights_file import weights_file
from oscar_core.regions import check_geometry, geometry_of, region_inputs
from oscar_core.starting import take_over
from oscar_core.task import Knowledge, Scores, Task, load_task
from oscar_core.tokens import Tokenizer, build_vocabulary, read_vocabulary
from oscar_core.training.checkpoints import remove_checkpoints
from oscar_core.training.config import TrainingConfig
from oscar_core.training.lesson import Lesson
from oscar_core.training.loop import StepReport, TrainSummary, train
from oscar_core.training.seeds import seed_weights
from oscar_core.training.standardise import fold, measure_spread, standardise
from oscar_core.training.together import Together, join
from oscar_core.training.tracking import check_trackers
from storage.library import Library
from storage.trained import TRAINED, read_trained, write_trained

CHECKPOINTS = "checkpoints"
"""Folder of checkpoints beside the model folder; gone when the training is done."""


def train_task(
    *,
    task: str,
    settings: object,
    encoder: EncoderSettings,
    training: TrainingConfig,
    library: Library,
    vocabulary: Path | None,
    start: Path | None,
    folder: Path,
    losses: Path,
    on_step: Callable[[StepReport], None],
    should_stop: Callable[[], bool] = lambda: False,
    hidden_dropout: float | None = None,
    geometry: str | None = None,
) -> TrainSummary:
    """Train a model and write its folder; goes on from the last checkpoint.

    Under torchrun all processes call it alike; one on each machine writes.

    Args:
        task: Name of a folder of `oscar_core.tasks`.
        settings: That task's `Config`.
        encoder: Sizes of a new model; one that goes on from `start` keeps that one's.
        training: How long and how fast.
        library: Regions, tags and annotations.
        vocabulary: A BERT vocabulary; None keeps that of `start`, or builds one from the texts.
        start: Model folder whose weights are taken over; heads it lacks as a whole, and answers,
            start anew; the summary names them.
        folder: Becomes the model folder.
        losses: Becomes `losses.jsonl`; trackers write into its folder, too.
        on_step: Told after every update.
        should_stop: Asked after every update; True saves a checkpoint and ends.
        hidden_dropout: Instead of that of the sizes, also where they are those of `start`.
        geometry: Order of the last two numbers of the regions that `start` learned from, where its
            folder does not tell; None takes any.

    Raises:
        PackingError: The regions end in another order than `start` learned.
        TaskError: Unknown task, nothing to learn.
        WeightsError: `start` does not fit.
        TrainingError, TrainingStoppedError: See `oscar_core.training.loop.train`.
    """
    check_trackers(training.trackers)
    chosen = load_task(task)
    before = read_model(start) if start is not None else None
    trained = geometry if before is None or before.geometry is None else before.geometry
    check_geometry(library, trained, "this training" if start is None else str(start))
    knowledge = Knowledge(
        tokenizer=_tokenizer(chosen, settings, library, vocabulary, before),
        answers=chosen.answers(settings, library),
    )
    examples = chosen.examples(settings, library, "train")
    sizes = _sizes(encoder, knowledge, library, before)
    if hidden_dropout is not None:
        sizes = replace(sizes, hidden_dropout=hidden_dropout)
    seed_weights(training.seed)
    model = chosen.build_model(settings, knowledge, sizes)
    taken = take_over(model, before, knowledge) if before is not None else None
    if training.standardise_regions:
        _standardise(model, library, is_new=before is None or not before.has_seen_regions)
    checkpoints = folder.parent / CHECKPOINTS
    lesson = Lesson(
        task=chosen,
        config=settings,
        knowledge=knowledge,
        examples=examples,
        phases=chosen.phases(settings, examples),
        identity=_identity(chosen.name, settings, training, sizes, knowledge, len(examples), start),
    )
    together = join()
    summary = _finished(together, folder, lesson.identity)
    if summary is None:
        summary = train(
            lesson,
            training,
            model,
            together,
            checkpoints=checkpoints,
            losses=losses,
            on_step=on_step,
            should_stop=should_stop,
        )
        if taken is not None:
            summary = replace(
                summary, drawn_anew=", ".join(taken.new), left_out=", ".join(taken.left_out)
            )
        if together.writes:
            fold(_encoder(model))
            write_model(
                folder,
                task=chosen.name,
                config=settings,
                encoder=sizes,
                knowledge=knowledge,
                model=model,
                geometry=geometry_of(library) or trained,
            )
            files = _files(folder)
            write_trained(folder.parent / TRAINED, lesson.identity, asdict(summary), files)
    if together.writes:
        remove_checkpoints(checkpoints)
    together.part()
    return summary


def predict_task(
    *,
    model: Path,
    library: Library,
    split: str,
    on_batch: Callable[[int, int], None],
    parts: int = 1,
) -> list[Any]:
    """Predict every example of a split with a stored model.

    Args:
        model: A model folder.
        library: Controls come as a library with swapped images.
        split: Of the annotations.
        on_batch: Told (done, total) examples.
        parts: Into how many the task's batches are cut, to need less memory for the same
            predictions; an example is never cut.

    Returns:
        The task's `Prediction` records, in the order of its examples.

    Raises:
        WeightsError: The model cannot be read.
        PackingError: The regions end in another order than the model learned.
        TaskError: Nothing to predict.
    """
    stored = read_model(model)
    check_geometry(library, stored.geometry, str(model))
    device = _fastest_device()
    task, built = load_task(stored.task), stored.build().to(device)
    examples = task.examples(stored.config, library, split)
    predictions: list[Any] = []
    batch_size = max(1, task.predict_batch_size // parts)
    for start in range(0, len(examples), batch_size):
        chosen = examples[start : start + batch_size]
        batch = task.collate(stored.config, stored.knowledge, chosen, None).to(device)
        with torch.inference_mode():
            predictions += task.predict(stored.config, stored.knowledge, built, batch)
        on_batch(start + len(chosen), len(examples))
    return predictions


def score_task(
    *,
    task: str,
    settings: object,
    predictions: Mapping[str, Sequence[Any]],
    library: Library,
    split: str,
) -> Scores:
    """Judge predictions by control (`oscar_core.task.CONTROLS`)."""
    return load_task(task).score(settings, predictions, library, split)


def _tokenizer(
    task: Task,
    settings: object,
    library: Library,
    vocabulary: Path | None,
    before: StoredModel | None,
) -> Tokenizer:
    if before is not None:
        if vocabulary is not None:
            given = read_vocabulary(vocabulary)
            if given.vocabulary != before.knowledge.tokenizer.vocabulary:
                raise WeightsError(f"{vocabulary}: not the vocabulary of the model to start from")
        return before.knowledge.tokenizer
    if vocabulary is not None:
        return read_vocabulary(vocabulary)
    return Tokenizer(build_vocabulary(task.texts(settings, library)))


def _sizes(
    encoder: EncoderSettings, knowledge: Knowledge, library: Library, before: StoredModel | None
) -> OscarConfig:
    image_id = next(iter(library.regions))
    width = region_inputs(library.regions[image_id], library.geometry).shape[1]
    if before is None:
        return encoder.for_input(vocabulary_size=len(knowledge.tokenizer), region_feature_dim=width)
    if not before.has_seen_regions:
        return replace(
            before.encoder,
            region_feature_dim=width,
            has_region_norm=encoder.has_region_norm,
            region_norm_eps=encoder.region_norm_eps,
        )
    if before.encoder.region_feature_dim != width:
        raise WeightsError(
            f"the model to start from reads regions of width {before.encoder.region_feature_dim}, "
            f"these have {width}; was it trained with another detector?"
        )
    return before.encoder


def _finished(together: Together, folder: Path, identity: str) -> TrainSummary | None:
    """What earlier processes did, if all of this training lies whole on every machine."""
    summary = None
    with suppress(TypeError):  # written by a release that told other things
        known = read_trained(folder.parent / TRAINED, identity, _files(folder))
        summary = TrainSummary(**known) if known is not None else None
    told = together.exchange({"is_finished": summary is not None})
    return summary if all(each["is_finished"] for each in told) else None


def _files(folder: Path) -> list[Path]:
    return [folder / name for name in FILES]


def _fastest_device() -> torch.device:
    """An accelerator where there is one."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def _standardise(model: nn.Module, library: Library, *, is_new: bool) -> None:
    images = library.image_ids("train")
    inputs = (region_inputs(library.regions[name], library.geometry) for name in images)
    standardise(_encoder(model), measure_spread(inputs), is_new=is_new)


def _encoder(model: nn.Module) -> OscarEncoder:
    return cast(OscarEncoder, model.encoder)


def _identity(
    task: str,
    settings: object,
    training: TrainingConfig,
    sizes: OscarConfig,
    knowledge: Knowledge,
    num_examples: int,
    start: Path | None,
) -> str:
    """Of everything that decides how the training goes; checkpoints name it."""
    parts = [task, repr(settings), repr(training.learned()), repr(sizes), str(num_examples)]
    whole = sha256("\n".join(chain(parts, knowledge.answers)).encode())
    whole.update("\n".join(knowledge.tokenizer.vocabulary).encode())
    if start is not None:
        whole.update(weights_file(start).read_bytes())
    return whole.hexdigest()
