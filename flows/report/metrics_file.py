"""`metrics.json`: flat, numbers only, beside one block of versions."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from storage.artifacts import atomic_write_json

VERSIONS_KEY = "_versions"


def write_metrics(path: Path, metrics: Mapping[str, float], versions: Mapping[str, str]) -> None:
    """Write the file whole.

    Raises:
        ValueError: A value is not a finite number, or a name starts with an underscore.
        OSError: The file cannot be written.
    """
    for key, value in metrics.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if key.startswith("_") or not is_number or not math.isfinite(value):
            raise ValueError(f"metric {key!r}: {value!r} is not a finite number of that name")
    atomic_write_json(path, {**metrics, VERSIONS_KEY: dict(versions)})


def read_metrics(path: Path) -> dict[str, float]:
    """The numbers of the file, without the versions.

    Raises:
        OSError, ValueError: There is no such file, or it is not JSON.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    return {key: float(value) for key, value in content.items() if key != VERSIONS_KEY}
