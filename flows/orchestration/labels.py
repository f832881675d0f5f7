"""Name and tags of a flow run, so that a list of runs can be read and searched."""

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import yaml

from flows.schedule import Execution

PRODUCT = "oscar-flow"
_DIGITS = 8


def run_name(execution: Execution, name: str) -> str:
    """`demo, 15 steps`; after an interruption, or with changed settings, `demo, 3 of 15 steps`."""
    total = len(execution.plan.names)
    left = sum(not each.is_done for each in execution.prepared.values())
    steps = f"{total} steps" if left == total else f"{left} of {total} steps"
    return f"{name}, {steps}"


def run_tags(execution: Execution, name: str) -> tuple[str, ...]:
    """Product, run folder, machine, and where they are known seed and digest of the data."""
    return PRODUCT, f"run:{name}", f"host:{socket.gethostname()}", *_known(execution.run.path)


def _known(run: Path) -> Iterator[str]:
    with suppress(OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        yield f"seed:{config['seed']}"
    with suppress(OSError, ValueError, TypeError, KeyError):
        content = json.loads((run / "dataset.json").read_text(encoding="utf-8"))
        yield f"data:{content['total'][:_DIGITS]}"
