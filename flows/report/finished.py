"""Reads what finished steps left in their folders; a missing or odd file reads as nothing.

The page must come out whatever a run made: own photos without annotations have no scores, a
detector of given weights has no losses.
"""

import json
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.identity import IDENTITY
from storage.artifacts import read_done
from storage.errors import StorageError
from storage.quarantine import QUARANTINE_NAME, read_quarantine
from storage.records import Quarantined

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FinishedStep:
    """One step's folder."""

    name: str
    folder: Path

    def find(self, *names: str) -> Path | None:
        """The first of these files or folders that is there."""
        return next((self.folder / name for name in names if (self.folder / name).exists()), None)

    @property
    def summary(self) -> Mapping[str, Any]:
        """What the stage told about its work; {} where it is not done."""
        done = read_done(self.folder)
        return done.summary if done is not None else {}

    @property
    def fingerprint(self) -> str:
        """Who the step is; "" where it is not done."""
        done = read_done(self.folder)
        return done.fingerprint if done is not None else ""

    @property
    def config(self) -> Mapping[str, Any]:
        """The settings it ran with, plain JSON values."""
        identity = read_json(self.folder / IDENTITY)
        config = identity.get("config") if isinstance(identity, dict) else None
        return config if isinstance(config, dict) else {}

    @property
    def stage(self) -> str:
        """Name of its stage; "" where unknown."""
        identity = read_json(self.folder / IDENTITY)
        return str(identity.get("stage", "")) if isinstance(identity, dict) else ""

    def quarantine(self) -> list[Quarantined]:
        """What the step dropped."""
        try:
            return read_quarantine(self.folder / QUARANTINE_NAME)
        except StorageError:
            return []


def finished_steps(folders: Mapping[str, Path]) -> dict[str, FinishedStep]:
    """Step name -> its folder, in the order given."""
    return {name: FinishedStep(name, folder) for name, folder in folders.items()}


def read_json(path: Path | None) -> Any:
    """The value of a JSON file; None where it is absent or damaged."""
    if path is None:
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        _logger.info("%s: %s", path, error)
        return None


def read_rows(path: Path | None) -> Iterator[dict[str, Any]]:
    """The objects of a file with one JSON object a line; damaged lines are left out."""
    if path is None or not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            try:
                row = json.loads(line)
            except ValueError:
                _logger.info("%s: a line is not JSON", path)
                continue
            if isinstance(row, dict):
                yield row


def numbers(values: object) -> dict[str, float]:
    """The finite numbers of a mapping; everything else is left out."""
    if not isinstance(values, Mapping):
        return {}
    return {str(key): float(value) for key, value in values.items() if is_number(value)}


def is_number(value: object) -> bool:
    """Whether a JSON value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
