"""How much of what the detector said could be said in Chinese."""

from collections.abc import Mapping
from typing import Any

from flows.report.finished import FinishedStep, is_number, numbers, read_json
from flows.report.records import Coverage, CoverageRow

MAX_MISSING = 60


def read_coverage(step: FinishedStep | None) -> Coverage | None:
    """Rows by kind and source; None where nothing was translated."""
    told = read_json(step.find("coverage.json")) if step is not None else None
    if not isinstance(told, dict) or not _rows(told, "rows"):
        return None
    missing = [str(row.get("english", "")) for row in _rows(told, "missing")]
    return Coverage(
        rows=tuple(_row(row) for row in _rows(told, "rows")),
        missing=tuple(missing[:MAX_MISSING]),
        num_missing=len(missing),
        share=numbers(told).get("share", 0.0),
    )


def _row(row: Mapping[str, Any]) -> CoverageRow:
    examples = row.get("examples")
    return CoverageRow(
        kind=str(row.get("kind", "")),
        source=str(row.get("source", "")),
        num_words=_whole(row.get("num_words")),
        num_uses=_whole(row.get("num_uses")),
        examples=tuple(map(str, examples)) if isinstance(examples, list) else (),
    )


def _rows(told: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    rows = told.get(key)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _whole(value: object) -> int:
    return int(value) if isinstance(value, int | float) and is_number(value) else 0
