"""The card of one trained model, in the form of the Hugging Face hub: front matter and text.

Written by the training stages beside the weights, from what the runner wrote down about the step
(`identity.json`). No clock and no place in it, so equal work has an equal card.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from flows.identity import IDENTITY
from flows.lineage import code_version
from storage.artifacts import atomic_write_text, fingerprint

CARD = "README.md"
_HUB_TASKS = {
    "train_detector": "object-detection",
    "captioning": "image-to-text",
    "vqa": "visual-question-answering",
}
"""What was learned -> the hub's name of the task, where it has one."""
_NUM_LOSSES = 6
_START = "start"
"""Input of a step that is the model it goes on from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What a training says of its model.

    task:      folder of `oscar_core.tasks`, or "train_detector"
    languages: of texts it reads or writes
    facts:     name -> value, e.g. the number of examples
    losses:    `losses.jsonl` of the training
    start:     model folder that the training went on from
    """

    task: str
    languages: tuple[str, ...] = ()
    facts: Mapping[str, object]
    losses: Path
    start: Path | None = None


def write_model_card(model: Path, learned: Learned) -> None:
    """Write `README.md` into a model folder that lies in its step's folder.

    Raises:
        OSError: It cannot be written.
    """
    identity: Mapping[str, Any] = {}
    with suppress(OSError, ValueError):  # a stage that is called by itself has none
        identity = json.loads((model.parent / IDENTITY).read_text(encoding="utf-8"))
    atomic_write_text(model / CARD, model_card(learned, identity, code_version()))


def model_card(learned: Learned, identity: Mapping[str, Any], code: Mapping[str, str]) -> str:
    """The card as text.

    Args:
        learned: What the training says.
        identity: What the step's fingerprint was made of; {} where nobody knows.
        code: Package -> release, `commit` of the source tree (`flows.lineage.code_version`).
    """
    front = yaml.safe_dump(
        _front_matter(learned, identity), sort_keys=False, allow_unicode=True, width=100
    )
    return f"---\n{front}---\n\n" + "\n".join(_text(learned, identity, code)) + "\n"


def _front_matter(learned: Learned, identity: Mapping[str, Any]) -> dict[str, Any]:
    """What the hub reads. The licence of a model follows its data, which we do not know."""
    front: dict[str, Any] = {
        "license": "other",
        "license_name": "as-its-training-data",
        "language": list(learned.languages),
        "library_name": "oscar-flow",
        "pipeline_tag": _HUB_TASKS.get(learned.task, ""),
        "tags": ["oscar-flow", "vision-language", learned.task],
        "base_model": [name for name, _ in _parents(learned, identity)],
    }
    return {key: value for key, value in front.items() if value}


def _text(learned: Learned, identity: Mapping[str, Any], code: Mapping[str, str]) -> Iterator[str]:
    yield f"# {learned.task}"
    yield ""
    yield "Trained by oscar-flow. Weights are safetensors: reading them runs no code."
    yield ""
    yield from _table("Training", ("what", "value"), _rows(learned.facts))
    yield from _losses(learned.losses)
    if identity:
        inputs, outside = identity["inputs"], identity["outside"]
        yield from _table("Parents", ("model", "SHA-256"), _parents(learned, identity))
        data = {name: mark for name, mark in inputs.items() if name != _START}
        yield from _table("Data, from earlier steps", ("what", "fingerprint"), _rows(data))
        files = {name: mark for name, mark in outside.items() if name != _START}
        yield from _table("Data, from outside", ("what", "SHA-256"), _rows(files))
    yield from _table("Code", ("what", "version"), _rows(_versions(identity, code)))
    if identity:
        yield "## Configuration"
        yield ""
        yield "```yaml"
        yield yaml.safe_dump(identity["config"], sort_keys=False, allow_unicode=True).rstrip()
        yield "```"


def _parents(learned: Learned, identity: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The model it went on from: its name, and its step's fingerprint or the folder's digest."""
    if learned.start is None:
        return []
    mark = str(identity.get("inputs", {}).get(_START, "")).partition("/")[0]
    if mark:
        return [(learned.start.parent.name, mark)]  # a step's folder, named after both
    mark = str(identity.get("outside", {}).get(_START, ""))
    return [(f"{learned.start.name}-{mark[:12]}".rstrip("-"), mark)]


def _versions(identity: Mapping[str, Any], code: Mapping[str, str]) -> dict[str, object]:
    if not identity:
        return dict(code)
    mark = fingerprint(
        identity["stage"],
        identity["version"],
        identity["config"],
        identity["inputs"],
        identity["outside"],
    )
    stage = f"{identity['stage']}, version {identity['version']}"
    return {"fingerprint of the step": mark, "stage": stage, **code}


def _losses(path: Path) -> Iterator[str]:
    """Total loss at a few moments, evenly spread, the last one among them."""
    rows: list[tuple[str, str]] = []
    with suppress(OSError, ValueError, KeyError):
        lines = path.read_text(encoding="utf-8").splitlines()
        step = max(1, -(-len(lines) // _NUM_LOSSES))
        for line in reversed(list(islice(reversed(lines), 0, None, step))):
            row = json.loads(line)
            rows.append((str(row["step"]), f"{row['total']:.4g}"))
    yield from _table("Losses", ("step", "total"), rows)


def _rows(values: Mapping[str, object]) -> list[tuple[str, str]]:
    return [(name, str(value)) for name, value in values.items()]


def _table(title: str, head: tuple[str, str], rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    """A heading and a table; nothing without rows."""
    if not rows:
        return
    yield f"## {title}"
    yield ""
    for row in (head, ("---", "---"), *rows):
        yield f"| {' | '.join(_cell(each) for each in row)} |"
    yield ""


def _cell(text: str) -> str:
    """Text that does not leave its cell."""
    return " ".join(text.replace("|", "\\|").split())
