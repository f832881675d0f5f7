"""`losses.jsonl`: what a training minimised, one object an update."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from storage.artifacts import atomic_path

_LOG = logging.getLogger(__name__)


class LossLog:
    """Appended to update by update; a resumed training drops what it will do again.

    Rows stay in the file: a long training has too many to keep them in memory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep_until(self, step: int) -> None:
        """Read what is there and forget the updates after `step`.

        Losses that are not there any more are told in the log: weights do not depend on them.
        """
        num_kept = 0
        with atomic_path(self._path) as partial, open(partial, "w", encoding="utf-8") as stream:
            for row in self._whole_rows():
                if row["step"] <= step:
                    stream.write(json.dumps(row) + "\n")
                    num_kept += 1
        if num_kept < step:
            _LOG.warning(
                "%s: the losses of %d of %d updates are lost, the file was damaged; the curve has "
                "a gap, the weights are those of the checkpoint",
                self._path,
                step - num_kept,
                step,
            )

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
        with open(self._path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")

    def sync(self) -> None:
        """Bring it to the disk; before a checkpoint, so that none is ahead of it."""
        with suppress(FileNotFoundError), open(self._path, "rb") as stream:
            os.fsync(stream.fileno())

    def last_loss(self) -> float:
        """Mean total of the last tenth of the updates; 0 before the first."""
        num = sum(1 for _ in self._whole_rows())
        num_last = max(1, num // 10)
        last = (
            float(row["total"]) for row in islice(self._whole_rows(), max(0, num - num_last), None)
        )
        return round(sum(last) / num_last, 5) if num else 0.0

    def _whole_rows(self) -> Iterator[dict[str, Any]]:
        """Row by row, without lines that a kill or a damaged disk cut or spoiled."""
        with suppress(FileNotFoundError), open(self._path, "rb") as stream:
            for line in stream:
                with suppress(ValueError):
                    row = json.loads(line)
                    if line.endswith(b"\n") and isinstance(row, dict) and "step" in row:
                        yield row
