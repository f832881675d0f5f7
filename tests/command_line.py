"""Runs `oscar-flow` in this process, or in a child of its own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.cli import main
from tests.builders_flows import PYTHON, ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str


def oscar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> Said:
    """Run a command in this process."""
    monkeypatch.setattr(sys, "argv", ["oscar-flow", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    return Said(status=int(ended.value.code or 0), out=told.out, err=told.err)


def oscar_child(
    arguments: Sequence[str], *, folder: Path | None = None, text: str = "", seconds: float = 300
) -> Said:
    """Run a command in a child of its own, as a user would."""
    ended = subprocess.run(
        [PYTHON, "-W", "ignore", "-m", "flows", *arguments],
        input=text,
        capture_output=True,
        text=True,
        cwd=folder or ROOT,
        env=environment(),
        timeout=seconds,
    )
    return Said(status=ended.returncode, out=ended.stdout, err=ended.stderr)


def environment() -> dict[str, str]:
    """This one's, with the project importable from any folder and no time spent on colours."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "200"}
