"""The model card of a version: YAML front matter and text, in the form of the Hugging Face hub."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from flows.lineage import Lineage

_TASK_TYPES = {
    "detector": "object-detection",
    "captioning": "image-to-text",
    "vqa": "visual-question-answering",
    "gqa": "visual-question-answering",
    "retrieval": "sentence-similarity",
}
"""First part of a metric's name -> the hub's name of the task; "other" for the rest."""
_CONTROLS = ("_features_shuffled", "_shuffled")


def version_card(lineage: Lineage, steps: tuple[str, ...]) -> str:
    """The card as a whole.

    Args:
        lineage: of the version.
        steps: names of its model folders.
    """
    front = yaml.safe_dump(_front_matter(lineage), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n".join(_text(lineage, steps)) + "\n"


def _front_matter(lineage: Lineage) -> dict[str, Any]:
    """What the hub reads. The licence of a model follows its data, which we do not know."""
    front: dict[str, Any] = {
        "license": "other",
        "license_name": "as-its-training-data",
        "language": list(lineage.languages),
        "library_name": "oscar-flow",
        "tags": ["oscar-flow", "vision-language"],
    }
    results = [_result(name, value) for name, value in _own(lineage.metrics).items()]
    if results:
        front["model-index"] = [{"name": f"version {lineage.version}", "results": results}]
    return {key: value for key, value in front.items() if value}


def _result(metric: str, value: float) -> dict[str, Any]:
    return {
        "task": {"type": _TASK_TYPES.get(metric.partition(".")[0], "other")},
        "dataset": {"name": "the run's test split", "type": "own"},
        "metrics": [{"type": metric, "value": value}],
    }


def _text(lineage: Lineage, steps: tuple[str, ...]) -> Iterator[str]:
    yield f"# Version {lineage.version}"
    yield ""
    yield f"Made by oscar-flow, {lineage.created}. Model folders: {_listed(steps)}."
    yield ""
    yield from _section("Metrics", _metric_rows(lineage.metrics))
    yield from _section("Data", _data_rows(lineage.data))
    yield from _section("Code", [("package", "release"), *lineage.code.items()])
    yield from _section("Models", _model_rows(lineage))
    yield from _section("Parents", [("what was taken", "from version"), *lineage.parents.items()])
    yield "## Configuration"
    yield ""
    yield f"`config.yaml` beside this card, SHA-256 `{lineage.configuration[:16]}`."


def _section(title: str, rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """A heading with a table; nothing without rows below its head."""
    if len(rows) < 2:
        return
    yield f"## {title}"
    yield ""
    for at, row in enumerate(rows):
        yield f"| {' | '.join(row)} |"
        if at == 0:
            yield "|" + " --- |" * len(row)
    yield ""


def _metric_rows(metrics: Mapping[str, float]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("metric", "right", "features of another", "all of another")]
    for name in _own(metrics):
        values = [metrics.get(f"{name}{control}") for control in ("", *_CONTROLS)]
        rows.append((name, *("" if value is None else f"{value:.4g}" for value in values)))
    return rows


def _model_rows(lineage: Lineage) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("step", "stage, version of its code", "fingerprint")]
    for step, origin in lineage.models.items():
        made_by = f"{origin.stage} {origin.stage_version}" if origin.stage else "given"
        rows.append((step, made_by, origin.fingerprint[:16]))
    return rows


def _data_rows(data: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("what", "name", "SHA-256")]
    for kind, digests in data.items():
        if isinstance(digests, Mapping):
            rows += [(kind, name, str(mark)[:16]) for name, mark in digests.items()]
        else:
            rows.append((kind, "", str(digests)[:16]))
    return rows


def _own(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics that are no control."""
    return {name: value for name, value in metrics.items() if not name.endswith(_CONTROLS)}


def _listed(steps: tuple[str, ...]) -> str:
    return ", ".join(f"`{step}/`" for step in steps)
