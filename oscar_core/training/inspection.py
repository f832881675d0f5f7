"""Keeps a batch that cannot be learned from, so that somebody can look at it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from oscar_core.training.lesson import Lesson
from oscar_core.training.loader import Part
from oscar_core.training.tensor_file import write_tensors
from storage.artifacts import atomic_path, atomic_write_json

_LONGEST_TEXT = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """What a process computed when the loss was no number.

    step:   of the update, from 1, that was not made
    losses: of the whole batch, by name
    own:    losses of each part of this process: name -> (value times weight, weight)
    """

    step: int
    phase: str
    losses: Mapping[str, float]
    parts: Sequence[Part]
    own: Sequence[Mapping[str, tuple[float, float]]]


def keep_batch(folder: Path, lesson: Lesson, incident: Incident, *, process: str = "") -> Path:
    """Write `nan-batch-<step>.safetensors`, and beside it a `.json` that names the examples.

    Args:
        folder: Where.
        lesson: Whose examples they are.
        incident: What happened.
        process: Put behind the name where several processes train.

    Returns:
        The `.json`.

    Raises:
        OSError: They cannot be written.
    """
    stem = f"nan-batch-{incident.step:07d}{process}"
    tensors: dict[str, Tensor] = {}
    for number, part in enumerate(incident.parts):
        tensors |= dict(_tensors(part.batch, f"part{number}"))
    with atomic_path(folder / f"{stem}.safetensors") as partial:
        write_tensors(partial, {k: v.cpu().contiguous() for k, v in tensors.items()}, {})
    told = {
        "update": incident.step,
        "phase": incident.phase,
        "task": lesson.task.name,
        "losses": {name: str(value) for name, value in incident.losses.items()},
        "parts": [
            {
                "weight": part.weight,
                "losses": {name: str(v / w) for name, (v, w) in own.items() if w},
                "examples": [_told(lesson, index) for index in part.examples],
            }
            for part, own in zip(incident.parts, incident.own, strict=True)
        ],
    }
    path = folder / f"{stem}.json"
    atomic_write_json(path, told)
    return path


def _tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a batch, whatever it is made of, by where it lies."""
    if isinstance(value, Tensor):
        yield name, value
    elif is_dataclass(value):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name), f"{name}.{field.name}")
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _tensors(each, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from _tensors(each, f"{name}.{number}")


def _told(lesson: Lesson, index: int) -> dict[str, object]:
    """An example by its index and the short texts it holds, ids among them."""
    return {"index": index, **dict(_texts(lesson.examples[index], ""))}


def _texts(value: Any, name: str) -> Iterator[tuple[str, str | int]]:
    """Texts and whole numbers of a record and of the records in it."""
    if isinstance(value, str):
        yield name, value[:_LONGEST_TEXT]
    elif isinstance(value, int):
        yield name, value
    elif is_dataclass(value) and name.count(".") < 2:
        for field in fields(value):
            inside = f"{name}.{field.name}" if name else field.name
            yield from _texts(getattr(value, field.name), inside)
