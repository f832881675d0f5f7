"""Settings files of scene_graph_benchmark (YAML of yacs) as full names and plain values."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from detector.errors import DetectorConfigError

_MOST_BYTES = 1 << 20
_MOST_VALUES = 10_000
_ENDINGS = (".yaml", ".yml")


def settings_beside(weights: Path) -> Path | None:
    """The settings file of the same name beside a file of weights, if there is one."""
    found = (weights.with_suffix(ending) for ending in _ENDINGS)
    return next((path for path in found if path.is_file()), None)


def read_settings(path: Path) -> dict[str, Any]:
    """`MODEL: {RPN: {NMS_THRESH: 0.7}}` -> {"MODEL.RPN.NMS_THRESH": 0.7}.

    Text that is a Python literal, as "(0.5, 1.0)", becomes its value, as yacs has it.

    Raises:
        DetectorConfigError: It cannot be read, or is no such file.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DetectorConfigError(f"{path}: too large for a settings file")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DetectorConfigError(f"{path}: cannot be read as settings: {reason}") from error
    if not isinstance(content, dict):
        raise DetectorConfigError(f"{path}: no settings; want MODEL, INPUT and so on")
    settings: dict[str, Any] = {}
    for name, value in _flat(content, ""):
        settings[name] = value
        if len(settings) > _MOST_VALUES:
            raise DetectorConfigError(f"{path}: too many values for a settings file")
    return settings


def _flat(content: dict[Any, Any], head: str) -> Iterator[tuple[str, Any]]:
    """Every value under its full name."""
    if head.count(".") > 20:
        raise DetectorConfigError(f"settings: {head[:40]}... lies too deep")
    for key, value in content.items():
        name = f"{head}{key}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        else:
            yield name, _literal(value)


def _literal(value: Any) -> Any:
    """The value of a text that is a literal."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return value
