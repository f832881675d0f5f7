"""Two runs side by side: metrics, configurations, data: `oscar-flow compare DIR DIR`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table
from rich.text import Text

from flows.commands.show import CONTROLS, shown_number
from flows.dataset import DatasetDigest, difference, read_digest
from flows.errors import FlowError
from flows.report.metrics_file import VERSIONS_KEY, read_metrics
from flows.run_folder import RunFolder

METRICS = "metrics.json"
NOT_THERE = "-"
EQUAL = "="


def comparison(first: Path, second: Path) -> list[Table]:
    """Tables of metrics, of settings that differ, and of data that differs.

    Raises:
        FlowError: A folder holds no finished run.
    """
    tables = [_metrics(first, second), _settings(first, second)]
    data = _data(first, second)
    return tables if data is None else [*tables, data]


def _metrics(first: Path, second: Path) -> Table:
    mine, others = _read(first), _read(second)
    table = _table("metric", *_names(first, second), "difference", numbers=True)
    for name in dict.fromkeys([*mine, *others]):
        one, other = mine.get(name), others.get(name)
        if one == other and name.endswith(CONTROLS):
            continue
        table.add_row(name, _shown(one), _shown(other), _difference(one, other))
    return table


def _settings(first: Path, second: Path) -> Table:
    """By dotted key; versions of programs that decide metrics count as settings."""
    mine, others = _flat(first), _flat(second)
    table = _table("setting", *_names(first, second), "")
    for key in dict.fromkeys([*mine, *others]):
        one, other = mine.get(key, NOT_THERE), others.get(key, NOT_THERE)
        if one != other:
            table.add_row(key, Text(_value(one)), Text(_value(other)), "")
    if not table.row_count:
        table.add_row("(all equal)", "", "", "")
    return table


def _data(first: Path, second: Path) -> Table | None:
    """What the second run saw that the first did not; None where a run did not write it down."""
    mine, others = (read_digest(RunFolder(each)) for each in (first, second))
    if mine is None or others is None:
        return None
    table = _table("data", *_names(first, second), "from the first to the second")
    became = "the same" if mine.total == others.total else str(difference(mine, others))
    table.add_row("all", mine.total[:12], others.total[:12], became)
    for number in sorted({*mine.photos, *others.photos}):
        one, other = _folder_alone(mine, number), _folder_alone(others, number)
        if one != other:
            table.add_row(
                f"photo folder {number}",
                mine.photos.get(number, NOT_THERE)[:12],
                others.photos.get(number, NOT_THERE)[:12],
                str(difference(one, other)),
            )
    return table


def _folder_alone(digest: DatasetDigest, number: str) -> DatasetDigest:
    kept = {number: digest.photos[number]} if number in digest.photos else {}
    return DatasetDigest(photos=kept, annotations={}, others={}, shelf=digest.shelf)


def _table(*headings: str, numbers: bool = False) -> Table:
    table = Table(box=None, pad_edge=False)
    for at, heading in enumerate(headings):
        is_number = numbers and at > 0
        table.add_column(heading, no_wrap=at == 0, justify="right" if is_number else "left")
    return table


def _names(first: Path, second: Path) -> tuple[str, str]:
    """Names of two runs, with as much of their paths as tells them apart."""
    if first.resolve().name != second.resolve().name:
        return first.resolve().name, second.resolve().name
    return str(first), str(second)


def _read(run: Path) -> Mapping[str, float]:
    try:
        return read_metrics(run / METRICS)
    except (OSError, ValueError) as error:
        raise FlowError(
            f"{run / METRICS}: not there or not whole; finish the run: oscar-flow resume {run}"
        ) from error


def _flat(run: Path) -> dict[str, Any]:
    path = RunFolder(run).config
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        versions = json.loads((run / METRICS).read_text(encoding="utf-8")).get(VERSIONS_KEY, {})
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise FlowError(f"{path}: {error}; run the run's command again") from error
    return {**dict(_leaves(config, "")), **dict(_leaves(versions, "version of "))}


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Dotted key -> value; an empty section is a value, too."""
    if isinstance(value, dict | list) and value:
        for name, each in value.items() if isinstance(value, dict) else enumerate(value):
            joint = "." if key and not key.endswith(" ") else ""
            yield from _leaves(each, f"{key}{joint}{name}")
    else:
        yield key, value


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _shown(value: float | None) -> str:
    return NOT_THERE if value is None else shown_number(value)


def _difference(one: float | None, other: float | None) -> str:
    if one is None or other is None:
        return ""
    if one == other:
        return EQUAL
    change = other - one
    return f"{change:+.0f}" if change == int(change) and abs(change) > 1 else f"{change:+.3f}"
