"""Predictions on disk: one JSON object a line, a file for the right pictures and each control."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from oscar_core.task import load_task
from storage.artifacts import atomic_write_text
from storage.errors import DamagedFileError

if TYPE_CHECKING:
    from storage.library import Library

RIGHT = "right"
"""File name of what was predicted with the right pictures; a control's is its own name."""
CANDIDATES = "candidates.json"
"""Ids of the images whose scores stand in each retrieval prediction, in that order."""


def file_name(control: str) -> str:
    """`right.jsonl`, `shuffled.jsonl`, `features_shuffled.jsonl`."""
    return f"{control or RIGHT}.jsonl"


def write_predictions(path: Path, predictions: Sequence[Any]) -> None:
    """Write a task's `Prediction` records; the file appears whole.

    Raises:
        OSError: It cannot be written.
    """
    lines = [json.dumps(asdict(each), ensure_ascii=False) + "\n" for each in predictions]
    atomic_write_text(path, "".join(lines))


def read_predictions(path: Path, task: str) -> list[Any]:
    """Read a task's `Prediction` records.

    Raises:
        DamagedFileError: The file is not what `write_predictions` wrote.
    """
    record = import_module(f"{load_task(task).package}.records").Prediction
    adapter: TypeAdapter[Any] = TypeAdapter(record)
    try:
        return [adapter.validate_json(line) for line in rows(path)]
    except (OSError, ValidationError) as error:
        raise DamagedFileError(f"{path}: not predictions of {task} ({error})") from error


def candidates_of(model: Path, library: "Library", split: str) -> list[str] | None:
    """Images that a model's predictions rank, in the order of the scores; None where it ranks none.

    Raises:
        WeightsError: The model cannot be read.
    """
    from oscar_core.model_folder import read_model

    stored = read_model(model)
    dataset = import_module(f"{load_task(stored.task).package}.dataset")
    if not hasattr(dataset, "candidate_ids"):
        return None
    return list(dataset.candidate_ids(stored.config, library, split))


def rows(path: Path) -> list[str]:
    """The lines of a file; a caption may hold signs that `splitlines` would cut at."""
    return [line for line in path.read_text(encoding="utf-8").split("\n") if line]


def all_predictions(
    folder: Path, task: str, controls: Sequence[str]
) -> Mapping[str, Sequence[Any]]:
    """Every control's predictions that are there."""
    return {
        control: read_predictions(folder / file_name(control), task)
        for control in controls
        if (folder / file_name(control)).is_file()
    }
