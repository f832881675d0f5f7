"""A trained model on disk: weights, sizes, settings of its task, vocabulary, answers.

model.safetensors   model.json   vocab.txt   answers.json
`model.json` is written last, with the settings of the model's head as it was built beside those of
its task; a folder without it is none of ours. A published folder (Oscar,
VinVL, Mengzi-Oscar, a BERT) or one of transformers' layout is read in its place.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from oscar_core.config import OscarConfig
from oscar_core.encoder import OscarEncoder, OscarPreTrained
from oscar_core.errors import WeightsError
from oscar_core.hub_config import HEAD_SETTINGS, OscarHubConfig
from oscar_core.hub_folder import CONFIG, is_hub_folder, read_hub_folder
from oscar_core.models import CaptionModel, ClassifierModel, PretrainingModel
from oscar_core.published.checkpoints import KINDS, MODELS, load_published_folder
from oscar_core.task import Knowledge, load_task
from oscar_core.tokens import read_vocabulary, write_vocabulary
from storage.artifacts import atomic_path, atomic_write_json
from storage.records import HEIGHT_FIRST, WIDTH_FIRST

WEIGHTS, SETTINGS, VOCABULARY, ANSWERS = (
    "model.safetensors",
    "model.json",
    "vocab.txt",
    "answers.json",
)
FILES = (WEIGHTS, SETTINGS, VOCABULARY, ANSWERS)
OF_A_STEP = "model"
"""Where the model lies in the folder of a training."""
_VERSION = 1
_YES_AND_NO = _TWO_WAY = 2
_CAPTION_LOSS = ("label_smoothing", "drop_worst_ratio", "drop_worst_after")
_ENCODER, _CONTRAST = "encoder.", "contrast_head."
_WIDEN = "; turn it with `oscar-flow convert --as pretraining --widen-contrast`"
WHERE_ANSWERS_ARE = (
    "the original's are beside its data: of VQA 3,129 in trainval_label2ans.pkl, of GQA in "
    "trainval_testdev_all_label2ans.pkl (docs/published_models.md: Answers)"
)
"""Of a published classifier, whose folder does not hold them."""
REGION_PARTS = ("encoder.region_projection.", "encoder.region_norm.")
"""Names of the weights that read regions begin with one of these."""
_LOG = logging.getLogger(__name__)
_ANSWERING = "classifier."
"""Head with an output an answer (`oscar_core.models.ClassifierModel`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """What a model folder says, weights included.

    config:           of the task; a `Config` of its folder
    hub:              sizes of the encoder and settings of the head, as the model was built; None in
                      folders that do not say the latter: then `config` decides
    has_seen_regions: False for a BERT, whose parts for regions start anew in any size
    geometry:         order of the last two numbers of the regions it learned from; None where the
                      folder does not tell, as published ones
    """

    task: str
    config: Any
    encoder: OscarConfig
    knowledge: Knowledge
    weights: dict[str, Tensor]
    has_seen_regions: bool = True
    hub: OscarHubConfig | None = None
    geometry: str | None = None

    @property
    def is_encoder(self) -> bool:
        """Whether there is no head."""
        return all(name.startswith(_ENCODER) for name in self.weights)

    def build(self) -> nn.Module:
        """The model of the task in evaluation mode.

        Raises:
            WeightsError: Weights and settings do not fit.
        """
        if self.hub is not None:
            return self._filled(MODELS[KINDS[self.task]](self.hub))
        model = load_task(self.task).build_model(self.config, self.knowledge, self.encoder)
        return self._filled(model)

    def build_as_it_is(self) -> nn.Module:
        """Likewise, but where there is no head the encoder alone.

        Raises:
            WeightsError: Weights and settings do not fit.
        """
        if not self.is_encoder:
            return self.build()
        encoder = OscarEncoder(self.hub or self.encoder)
        self._filled(nn.ModuleDict({_ENCODER.rstrip("."): encoder}))
        return encoder

    def _filled(self, model: nn.Module) -> nn.Module:
        names = {name for name, _ in model.named_parameters()}
        if names != set(self.weights):
            odd = sorted(names ^ set(self.weights))
            raise WeightsError(f"{WEIGHTS}: tensor {odd[0]!r} is missing or left over")
        copy_weights(model, self.weights)
        return model.eval()


def write_model(
    folder: Path,
    *,
    task: str,
    config: Any,
    encoder: OscarConfig,
    knowledge: Knowledge,
    model: nn.Module,
    geometry: str | None = None,
) -> None:
    """Write a model folder; every file appears whole.

    Args:
        folder: Is made.
        task: Name of its task.
        config: That task's `Config`.
        encoder: Sizes of the encoder.
        knowledge: Tokenizer and answers.
        model: Whose weights are kept.
        geometry: Order of the last two numbers of the regions it learned from, if known.

    Raises:
        OSError: It cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = _ENCODER if isinstance(model, OscarEncoder) else ""
    weights = {
        f"{before}{name}": value.detach().cpu().contiguous()
        for name, value in model.named_parameters()
    }
    with atomic_path(folder / WEIGHTS) as partial:
        save_file(weights, partial)
    write_vocabulary(folder / VOCABULARY, knowledge.tokenizer.vocabulary)
    atomic_write_json(folder / ANSWERS, list(knowledge.answers))
    content = {
        "version": _VERSION,
        "task": task,
        "lower_case": knowledge.tokenizer.lower_case,
        "encoder": asdict(encoder),
        "settings": asdict(config),
    }
    if isinstance(model, OscarPreTrained):
        content["head"] = model.config.head_settings()
    if geometry is not None:
        content["geometry"] = geometry
    atomic_write_json(folder / SETTINGS, content)


def read_model(folder: Path) -> StoredModel:
    """Read a model folder: ours, a published one, or one of transformers' layout.

    Raises:
        WeightsError: A file is missing, damaged or of another version.
        ModelConfigError: A published config.json is damaged.
        TaskError: Its task is not known.
        VocabularyError: Its vocabulary cannot be read.
    """
    if not (folder / SETTINGS).is_file() and (folder / CONFIG).is_file():
        return _read_foreign(folder)
    inside = folder / OF_A_STEP
    if not (folder / SETTINGS).is_file() and (inside / SETTINGS).is_file():
        raise WeightsError(f"{folder}: holds no model itself; name the one in it, {inside}")
    try:
        content = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        if content["version"] != _VERSION:
            raise WeightsError(f"{folder / SETTINGS}: version {content['version']} is not known")
        task = load_task(content["task"])
        encoder = OscarConfig(**content["encoder"])
        return StoredModel(
            task=task.name,
            config=TypeAdapter(task.config).validate_python(content["settings"]),
            encoder=encoder,
            hub=_hub(encoder, content["head"]) if "head" in content else None,
            knowledge=Knowledge(
                tokenizer=read_vocabulary(folder / VOCABULARY, lower_case=content["lower_case"]),
                answers=tuple(json.loads((folder / ANSWERS).read_text(encoding="utf-8"))),
            ),
            weights=load_file(folder / WEIGHTS),
            geometry=_order(content.get("geometry")),
        )
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise WeightsError(f"{folder}: no model can be read from it ({error})") from error


def _order(geometry: object) -> str | None:
    if geometry not in (None, WIDTH_FIRST, HEIGHT_FIRST):
        raise ValueError(f"geometry: {geometry!r} is not known")
    return None if geometry is None else str(geometry)


def _hub(encoder: OscarConfig, head: Mapping[str, Any]) -> OscarHubConfig:
    if not isinstance(head, Mapping):
        raise ValueError("head: want an object")
    unknown = sorted(head.keys() ^ set(HEAD_SETTINGS))
    if unknown:
        raise ValueError(f"head: {unknown[0]!r} is missing or not known")
    return OscarHubConfig(**asdict(encoder), **head)


def task_of(model: OscarPreTrained) -> str:
    """The task that a model without a name was made for, by its class.

    Raises:
        WeightsError: Its class leaves that open, or there is no such task.
    """
    if isinstance(model, PretrainingModel | OscarEncoder):
        return "pretraining"
    if isinstance(model, CaptionModel):
        return "captioning"
    if isinstance(model, ClassifierModel) and model.config.num_labels == _YES_AND_NO:
        return "retrieval"
    raise WeightsError(
        f"a {type(model).__name__} with {model.config.num_labels} outputs: of which task, and with "
        "which answers? say it with `oscar-flow convert --as TASK --answers FILE`; "
        f"{WHERE_ANSWERS_ARE}"
    )


def settings_of(task: str, config: OscarHubConfig) -> Any:
    """The settings of a task's `Config` that a model fixes; the others are the task's defaults."""
    kind = load_task(task).config
    known: dict[str, Any] = {
        "is_tied": config.is_tied,
        "freezes_embedding": config.freezes_embedding,
        "head": config.head,
    }
    if config.num_contrast_classes == _TWO_WAY:
        known["wrong_first"] = 0.0  # class 1 of vanilla Oscar: the second text is another's
    for name in _CAPTION_LOSS:
        if name in config.published:
            known[name] = getattr(config, name)
    names = {each.name for each in fields(kind)}
    return kind(**{name: value for name, value in known.items() if name in names})


def _read_foreign(folder: Path) -> StoredModel:
    """A folder that another program wrote.

    A BERT that has seen no regions is a beginning for pretraining: its two-way head, which asks
    whether one sentence follows another, is left out.
    """
    is_bert = False
    if is_hub_folder(folder):
        model, tokenizer = read_hub_folder(folder)
        weights = {name: value.detach() for name, value in model.named_parameters()}
        task = task_of(model)
    else:
        loaded = load_published_folder(folder)
        model, tokenizer = loaded.model, loaded.tokenizer
        weights = {name: value.detach() for name, value in model.named_parameters()}
        task = "pretraining" if loaded.is_bert else task_of(model)
        is_bert = loaded.is_bert
        if is_bert and any(name.startswith(_CONTRAST) for name in weights):
            weights = {n: value for n, value in weights.items() if not n.startswith(_CONTRAST)}
            _LOG.info("%s: cls.seq_relationship asks about sentences, not images: left out", folder)
    if isinstance(model, OscarEncoder):
        weights = {f"{_ENCODER}{name}": value for name, value in weights.items()}
    if is_bert:
        weights = {n: value for n, value in weights.items() if not n.startswith(REGION_PARTS)}
    return StoredModel(
        task=task,
        config=settings_of(task, model.config),
        encoder=model.config.sizes(),
        knowledge=Knowledge(tokenizer=tokenizer),
        weights=weights,
        has_seen_regions=not is_bert,
        hub=model.config,
    )


def with_answers(
    weights: Mapping[str, Tensor],
    model: nn.Module,
    before: Sequence[str],
    after: Sequence[str],
) -> dict[str, Tensor]:
    """Weights of a classifier, turned to other answers.

    The last layer has a row an answer; rows follow their answers by text, and an answer that is
    new keeps the row that the model drew for it.

    Args:
        weights: Of a model with the answers `before`.
        model: With the answers `after`, freshly drawn.
        before: Answers in the order of the outputs.
        after: Likewise.
    """
    place = {answer: number for number, answer in enumerate(before)}
    known = [(new, place[answer]) for new, answer in enumerate(after) if answer in place]
    rows, old_rows = [new for new, _ in known], [old for _, old in known]
    turned = dict(weights)
    drawn = [(name, each) for name, each in model.named_parameters() if name.startswith(_ANSWERING)]
    for name, parameter in drawn[-2:]:  # weight and bias of the last layer
        if name in weights and len(weights[name]) == len(before):
            value = parameter.detach().clone()
            value[rows] = weights[name][old_rows]
            turned[name] = value
    return turned


@torch.no_grad()
def copy_weights(model: nn.Module, weights: dict[str, Tensor]) -> list[str]:
    """Take over every tensor whose name the model has.

    Returns:
        Names of the model's parameters that kept their values.

    Raises:
        WeightsError: A tensor of the same name has another shape.
    """
    kept = []
    for name, parameter in model.named_parameters():
        if name not in weights:
            kept.append(name)
        elif parameter.shape != weights[name].shape:
            mend = _WIDEN if name.startswith(_CONTRAST) else ""
            raise WeightsError(
                f"tensor {name!r} has shape {tuple(weights[name].shape)}, "
                f"the configured model needs {tuple(parameter.shape)}{mend}"
            )
        else:
            parameter.copy_(weights[name])
    return kept
