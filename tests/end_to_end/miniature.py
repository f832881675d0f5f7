"""A demo small enough for a test: the shipped configuration in tiny sizes, through every stage."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from flows.config import as_yaml, read_config
from tests.builders_flows import PYTHON, ROOT, until
from tests.command_line import environment

CONFIG_NAME = "miniature.yaml"
TASKS = ("captioning", "retrieval", "vqa")
SIZES = """
base: demo.yaml
render_scenes: {num_train: 16, num_val: 2, num_test: 6}
detect: {rows_per_shard: 4, batch_size: 4}
train_detector:
  training:
    num_steps: 4
    images_per_step: 2
    checkpoint_every: 2
    crop_warmup: {num_steps: 2}
encoder: {hidden_size: 32, num_layers: 1, num_heads: 2, intermediate_size: 64}
pretrain:
  training: {steps: 30, batch_size: 4, checkpoint_every: 2}
  settings: {first: null}
tasks:
  captioning:
    training: {steps: 4, batch_size: 4, checkpoint_every: 2}
    settings: {max_length: 6, num_beams: 1}
  retrieval:
    training: {steps: 4, batch_size: 4, checkpoint_every: 2}
    settings: {num_captions: 1, group_size: 0}
  vqa:
    training: {steps: 4, batch_size: 4, checkpoint_every: 2}
"""


def write_config(folder: Path) -> Path:
    """The miniature's configuration, resolved: a change of the shipped one is another run's."""
    path = folder / CONFIG_NAME
    path.write_text(SIZES)
    path.write_text(as_yaml(read_config(path)))
    return path


def start(config: Path, out: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start the run in a process group of its own."""
    command = ["-W", "ignore", "-m", "flows", "run", str(config), "--out", str(out), *arguments]
    return subprocess.Popen(
        [PYTHON, *command],
        env=environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(run: "subprocess.Popen[str]", seconds: float = 280) -> str:
    """Wait for the end of a run that should go well; what it printed."""
    try:
        printed, _ = run.communicate(timeout=seconds)
    except BaseException:
        _kill_group(run.pid)
        raise
    assert run.returncode == 0, printed
    return printed


def kill_in(run: "subprocess.Popen[str]", out: Path, step: str, ready: Callable[[], bool]) -> None:
    """SIGKILL to the run and to the children of the step, as soon as the step has come so far."""
    until(lambda: _works(out, step) and ready(), seconds=200)
    for state in out.glob("state/*.json"):
        known = json.loads(state.read_text())
        if isinstance(known, dict) and known.get("state") == "running":
            _kill_group(int(known["pid"]))
    _kill_group(run.pid)
    run.communicate()


def metrics_of(out: Path) -> dict[str, Any]:
    """What the run measured."""
    content: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return content


def times_of(out: Path) -> dict[str, int]:
    """Files of all finished steps -> when they were written."""
    folders = [mark.parent for mark in out.glob("*/DONE.json")]
    return {
        str(path.relative_to(out)): path.stat().st_mtime_ns
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }


def folder_of(out: Path, step: str) -> Path | None:
    """The folder of a step that has begun."""
    return next((path for path in out.glob(f"{step}-*") if path.is_dir()), None)


def _works(out: Path, step: str) -> bool:
    try:
        return bool(json.loads((out / "state" / f"{step}.json").read_text())["state"] == "running")
    except (OSError, ValueError):
        return False


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
