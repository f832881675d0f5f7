"""Tables of differences: engines of ours beside another program, a column each."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.reference.comparison import Difference
from detector.engine import Engine
from detector.engines import prepare
from detector.model import AttributeRCNN

ENGINES = ("textbook", "exact", "fast")
"""textbook: the network as it is written down; the others are the precisions of the detector."""


def engines_of(model: AttributeRCNN, names: Iterable[str]) -> dict[str, Engine]:
    """What computes on our side, by name."""
    return {
        name: model if name == "textbook" else prepare(model, precision)
        for name in names
        for precision in ("fast" if name == "fast" else "exact",)
    }


def table_of(columns: Mapping[str, Sequence[Difference]]) -> str:
    """One photo's table, in Markdown."""
    lines = [
        f"| stage | largest value | {' | '.join(columns)} | |",
        f"|---|---:|{'---:|' * len(columns)}---|",
    ]
    for rows in zip(*columns.values(), strict=True):
        first = rows[0]
        numbers = " | ".join("-" if r.largest is None else f"{r.largest:.2g}" for r in rows)
        notes = dict.fromkeys(row.note for row in rows if row.note)
        lines.append(
            f"| {first.stage.strip()} | {first.scale:.3g} | {numbers} | {'; '.join(notes)} |"
        )
    return "\n".join(lines)


def write_tables(path: Path, tables: Mapping[str, Mapping[str, Sequence[Difference]]]) -> None:
    """Photo -> engine -> rows, as JSON."""
    content = {
        photo: {name: [asdict(row) for row in rows] for name, rows in columns.items()}
        for photo, columns in tables.items()
    }
    path.write_text(json.dumps(content, indent=1))
