"""A trained model on disk: weights, sizes, settings of its task, vocabulary, answers.

model.safetensors   model.json   vocab.txt   answers.json
`model.json` is written last; a folder without it is none.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from oscar_core.config import OscarConfig
from oscar_core.errors import WeightsError
from oscar_core.task import Knowledge, load_task
from oscar_core.tokens import read_vocabulary, write_vocabulary
from storage.artifacts import atomic_path, atomic_write_json

WEIGHTS, SETTINGS, VOCABULARY, ANSWERS = (
    "model.safetensors",
    "model.json",
    "vocab.txt",
    "answers.json",
)
FILES = (WEIGHTS, SETTINGS, VOCABULARY, ANSWERS)
_VERSION = 1
_ANSWERING = "classifier."
"""Head with an output an answer (`oscar_core.models.ClassifierModel`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """What a model folder says, weights included.

    config: of the task; a `Config` of its folder
    """

    task: str
    config: Any
    encoder: OscarConfig
    knowledge: Knowledge
    weights: dict[str, Tensor]

    def build(self) -> nn.Module:
        """The model in evaluation mode.

        Raises:
            WeightsError: Weights and settings do not fit.
        """
        model = load_task(self.task).build_model(self.config, self.knowledge, self.encoder)
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
) -> None:
    """Write a model folder; every file appears whole.

    Raises:
        OSError: It cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in model.named_parameters()}
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
    atomic_write_json(folder / SETTINGS, content)


def read_model(folder: Path) -> StoredModel:
    """Read a model folder.

    Raises:
        WeightsError: A file is missing, damaged or of another version.
        TaskError: Its task is not known.
        VocabularyError: Its vocabulary cannot be read.
    """
    try:
        content = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        if content["version"] != _VERSION:
            raise WeightsError(f"{folder / SETTINGS}: version {content['version']} is not known")
        task = load_task(content["task"])
        return StoredModel(
            task=task.name,
            config=TypeAdapter(task.config).validate_python(content["settings"]),
            encoder=OscarConfig(**content["encoder"]),
            knowledge=Knowledge(
                tokenizer=read_vocabulary(folder / VOCABULARY, lower_case=content["lower_case"]),
                answers=tuple(json.loads((folder / ANSWERS).read_text(encoding="utf-8"))),
            ),
            weights=load_file(folder / WEIGHTS),
        )
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise WeightsError(f"{folder}: no model can be read from it ({error})") from error


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
            raise WeightsError(
                f"tensor {name!r} has shape {tuple(weights[name].shape)}, "
                f"the configured model needs {tuple(parameter.shape)}"
            )
        else:
            parameter.copy_(weights[name])
    return kept
