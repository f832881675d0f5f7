"""`losses.jsonl`: what a training minimised, one object an update."""

import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from storage.artifacts import atomic_write_text

_LOG = logging.getLogger(__name__)


class LossLog:
    """Appended to update by update; a resumed training drops what it will do again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: list[dict[str, Any]] = []

    def keep_until(self, step: int) -> None:
        """Read what is there and forget the updates after `step`.

        Losses that are not there any more are told in the log: weights do not depend on them.
        """
        self.rows = [row for row in self._whole_rows() if row["step"] <= step]
        if len(self.rows) < step:
            _LOG.warning(
                "%s: the losses of %d of %d updates are lost, the file was damaged; the curve has "
                "a gap, the weights are those of the checkpoint",
                self._path,
                step - len(self.rows),
                step,
            )
        atomic_write_text(self._path, "".join(json.dumps(row) + "\n" for row in self.rows))

    def add(
        self,
        step: int,
        phase: str,
        losses: Mapping[str, float],
        how: Mapping[str, float] | None = None,
    ) -> None:
        """Append an update.

        Args:
            step: Its number, from 1.
            phase: Of the training.
            losses: By name.
            how: Learning rate and the like, which may be tiny.
        """
        rounded = {name: round(value, 5) for name, value in losses.items()}
        tiny = {name: float(f"{value:.6g}") for name, value in (how or {}).items()}
        row = {"step": step, "phase": phase} | rounded | tiny
        self.rows.append(row)
        with open(self._path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")

    def sync(self) -> None:
        """Bring it to the disk; before a checkpoint, so that none is ahead of it."""
        with suppress(FileNotFoundError), open(self._path, "rb") as stream:
            os.fsync(stream.fileno())

    def _whole_rows(self) -> list[dict[str, Any]]:
        """Without lines that a kill or a damaged disk cut or spoiled."""
        rows = []
        with suppress(FileNotFoundError):
            for line in self._path.read_bytes().splitlines(keepends=True):
                with suppress(ValueError):
                    row = json.loads(line)
                    if line.endswith(b"\n") and isinstance(row, dict) and "step" in row:
                        rows.append(row)
        return rows
