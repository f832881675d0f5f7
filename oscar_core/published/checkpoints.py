"""Published folders (Oscar v1, VinVL, Mengzi-Oscar, any BERT) -> one of our models, strictly.

`pytorch_model.bin` or `model.safetensors`, `config.json`, `vocab.txt`. Every tensor of the file is
used, or told as left out; every parameter of the model comes from the file, or its part was
allowed to start anew and is told. `training_args.bin` and other pickles are never opened.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from oscar_core.encoder import OscarEncoder, OscarPreTrained
from oscar_core.errors import ModelConfigError, WeightsError
from oscar_core.hub_config import OscarHubConfig
from oscar_core.models import (
    CaptionModel,
    ChoiceModel,
    ClassifierModel,
    PairModel,
    PretrainingModel,
)
from oscar_core.published.bert_names import IGNORED, Loaded, load_published, published_name
from oscar_core.published.config_json import Kind, read_config_json
from oscar_core.published.inference import Notes, inferred_config, kind_of
from oscar_core.published.migrations import migrated, widened_contrast
from oscar_core.published.shapes import REGIONS, Shapes, shapes_of
from oscar_core.published.vocabulary import read_published_vocabulary
from oscar_core.published.weights_file import read_tensors, weights_file
from oscar_core.tokens import Tokenizer

CONFIG = "config.json"

MODELS: dict[Kind, type[OscarPreTrained]] = {
    "encoder": OscarEncoder,
    "pretraining": PretrainingModel,
    "captioning": CaptionModel,
    "answers": ClassifierModel,
    "pair": PairModel,
    "choice": ChoiceModel,
}
KINDS: dict[str, Kind] = {
    "encoder": "encoder",
    "pretraining": "pretraining",
    "captioning": "captioning",
    "vqa": "answers",
    "gqa": "answers",
    "retrieval": "answers",
    "nlvr2": "pair",
}
"""What stands on the encoder, by task."""

KIND_NAMES: dict[Kind, str] = {
    "encoder": "an encoder alone",
    "pretraining": "a model of pretraining",
    "captioning": "a model of captioning",
    "answers": "a classifier (retrieval, vqa or gqa)",
    "pair": "a classifier of pairs (nlvr2)",
    "choice": "a model of choices",
}
"""For people."""

PARTS = {
    "regions": ("encoder.region_projection.", "encoder.region_norm."),
    "pooler": ("encoder.pooler.",),
    "words": ("word_head.",),
    "contrast": ("contrast_head.",),
    "answers": ("classifier.",),
}
"""What may start anew, and its parameters."""

_OF_A_BERT = ("regions", "pooler")
"""Cannot be had from a BERT that has seen no regions; from such a file they start anew unasked."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What happened to a checkpoint; published names.

    file:           of the tensors
    kind:           of model they became
    migrations:     named changes that were made, a line each
    inferred:       what no file said outright
    contradictions: between config.json and the tensors
    new:            parameters that the file lacks, drawn from the seed
    unused:         tensors that this model has no place for
    ignored:        names that are read over, each with its reason
    """

    file: Path
    kind: Kind
    migrations: tuple[str, ...] = ()
    inferred: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """All of it, a line each."""
        told = [f"{self.file}: read as {KIND_NAMES[self.kind]}"]
        for word in ("migrations", "inferred", "contradictions", "new", "unused", "ignored"):
            singular = word.removesuffix("s") if word.endswith("s") else word
            told += [f"  {singular}: {each}" for each in getattr(self, word)]
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A published model as ours, in evaluation mode."""

    model: OscarPreTrained
    tokenizer: Tokenizer
    config: OscarHubConfig
    report: Report

    @property
    def is_bert(self) -> bool:
        """Whether the file has seen no regions."""
        return REGIONS in self.report.new


def load_published_folder(
    folder: Path,
    task: str | type[OscarPreTrained] | None = None,
    *,
    starts_anew: Collection[str] = (),
    widens_contrast: bool = False,
    num_labels: int | None = None,
    vocabulary: Path | None = None,
    lower_case: bool = True,
    seed: int = 0,
) -> LoadedModel:
    """Read a published folder.

    Args:
        folder: With `pytorch_model.bin` or `model.safetensors`, `config.json` and `vocab.txt`.
        task: What to read it as: a name of `KINDS`, one of our model classes, or None for what
            its heads say.
        starts_anew: Parts (of `PARTS`) that may be drawn where the file lacks them.
        widens_contrast: Make a two-way contrast head a three-way one.
        num_labels: Of a classifier that starts anew.
        vocabulary: Another file than the folder's `vocab.txt`.
        lower_case: As all published recipes do, Chinese ones too.
        seed: Of what starts anew.

    Raises:
        WeightsError: Files are missing or damaged, of another model, or lack a part that may not
            start anew.
        ModelConfigError: config.json is damaged or cannot be built.
        VocabularyError: The vocabulary is missing, damaged or of another model.
    """
    path = weights_file(folder)
    state, migrations = _read(path)
    place = path.parent / CONFIG
    published = read_config_json(place) if place.is_file() else None
    notes = Notes()
    weights = [tensor for name, tensor in state.items() if name not in IGNORED]
    others = sorted({str(tensor.dtype) for tensor in weights} - {str(torch.float32)})
    if others:
        notes.inferred.append(f"tensors of {', '.join(others)} are read as float32")
    shapes = shapes_of(state)
    try:
        config = inferred_config(shapes, published, notes, path=str(path))
    except ModelConfigError as error:
        raise ModelConfigError(f"{place}: {str(error).removeprefix('config.json: ')}") from error
    kind = _kind(task, shapes)
    generator = torch.Generator().manual_seed(seed)
    if widens_contrast:
        state, what = widened_contrast(state, config.initializer_range, generator)
        migrations, config.num_contrast_classes = (*migrations, what), 3
    if num_labels is not None and shapes.answers is None:
        config.num_labels = num_labels
    model, loaded = _filled(kind, config, state, shapes, seed, path)
    model.train(mode=False)
    _check_complete(loaded, shapes, starts_anew, kind, path, has_pooler=_has_pooler(state))
    tokenizer = read_published_vocabulary(
        path.parent, vocabulary, config.vocabulary_size, lower_case=lower_case
    )
    report = Report(
        file=path,
        kind=kind,
        migrations=migrations,
        inferred=tuple(notes.inferred),
        contradictions=tuple(notes.contradictions),
        new=tuple(published_name(name) for name in (*loaded.missing, *loaded.resized)),
        unused=tuple(published_name(name) for name in loaded.unused),
        ignored=tuple(f"{name}: {IGNORED[name]}" for name in state if name in IGNORED),
    )
    for line in report.lines():
        _LOG.info("%s", line)
    return LoadedModel(model=model, tokenizer=tokenizer, config=config, report=report)


def _read(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Tensors of a file by today's names, all of them fit to be weights, and what was changed."""
    try:
        state, migrations = migrated(read_tensors(path))
    except WeightsError as error:
        said = str(error)
        raise WeightsError(said if said.startswith(str(path)) else f"{path}: {said}") from error
    for name, tensor in state.items():
        if name in IGNORED:
            continue
        if not tensor.is_floating_point():
            raise WeightsError(f"{path}: tensor {name!r} is of {tensor.dtype}, want real numbers")
        if not bool(tensor.isfinite().all()):
            raise WeightsError(
                f"{path}: tensor {name!r} holds numbers that are not finite; the training that "
                "wrote it failed, or the file is damaged: take an earlier checkpoint"
            )
    return state, migrations


def _kind(task: str | type[OscarPreTrained] | None, shapes: Shapes) -> Kind:
    if task is None:
        return kind_of(shapes)
    if isinstance(task, str):
        if task not in KINDS:
            raise WeightsError(f"{task!r} is no task; choose one of {', '.join(KINDS)}")
        return KINDS[task]
    return next(kind for kind, model in MODELS.items() if model is task)


def _filled(
    kind: Kind,
    config: OscarHubConfig,
    state: dict[str, Tensor],
    shapes: Shapes,
    seed: int,
    path: Path,
) -> tuple[OscarPreTrained, Loaded]:
    """The model with the file's tensors, and what became of them."""
    if kind == "pretraining" and shapes.has_own_decoder:
        raise WeightsError(
            f"{path}: tensor 'cls.predictions.decoder.weight' differs from the word embedding, "
            "which pretraining shares; was it fine-tuned for captions? read it as captioning"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MODELS[kind](config)
    try:
        if kind == "encoder":
            held = torch.nn.Module()
            held.encoder = model
            return model, load_published(held, state)
        return model, load_published(model, state)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error


def _has_pooler(state: dict[str, Tensor]) -> bool:
    return any(name.startswith("bert.pooler.") for name in state)


def _check_complete(
    loaded: Loaded,
    shapes: Shapes,
    starts_anew: Collection[str],
    kind: Kind,
    path: Path,
    *,
    has_pooler: bool,
) -> None:
    """Refuse parameters that would be drawn without having been asked for."""
    unknown = sorted(set(starts_anew) - PARTS.keys())
    if unknown:
        raise WeightsError(f"{unknown[0]!r} is no part; choose from {', '.join(PARTS)}")
    allowed = set(starts_anew)
    if shapes.region_feature_dim is None:
        allowed |= set(_OF_A_BERT) - ({"pooler"} if has_pooler else set())
    for name in (*loaded.missing, *loaded.resized):
        part = next((part for part, starts in PARTS.items() if name.startswith(starts)), None)
        if part in allowed:
            continue
        if name in loaded.resized:
            raise WeightsError(
                f"{path}: tensor {published_name(name)!r} is of {shapes.num_contrast_classes} "
                f"classes, the model needs others; widen it (--widen-contrast), or let it start "
                "anew (--start-anew contrast)"
            )
        mend = f"; to draw it anew, say so: --start-anew {part}" if part else ""
        raise WeightsError(f"{path}: tensor {published_name(name)!r} is missing for {kind}{mend}")
