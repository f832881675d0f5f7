"""Runs inside the processes of a run under test and makes faults happen in the middle of a step.

Python imports it at every start. It acts only where OSCAR_FAULTS names a folder, and there only in
the process of a stage (`python -m flows.child`) or a worker of Ray: at the n-th file that is about
to get its final name, when the half-finished file lies beside it. `orders.json` in that folder:
step -> {"at": n, "do": "hold" | "memory" | "device memory" | "segfault", "times": attempts}; a
worker of Ray goes by the name "ray". Every act leaves `<step>.<number>.reached` with the process
id behind. A held process goes on when `<step>.go` appears.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def _step() -> str:
    """Which step this process works on; "" where it is none of those meant."""
    arguments = sys.orig_argv
    if any(each.endswith("default_worker.py") for each in arguments):
        return "ray"
    is_stage = "flows.child" in arguments and "flows.orchestration.torchrun" not in arguments
    if not is_stage or os.environ.get("RANK", "0") != "0":
        return ""
    return Path(arguments[-1]).name.removesuffix(".request.json")


def _folder(step: str) -> str:
    """Part of every path that the step writes to."""
    if step == "ray":
        return "regions-"
    return str(json.loads(Path(sys.orig_argv[-1]).read_text())["folder"])


def _install(faults: Path, step: str, order: Mapping[str, Any]) -> None:
    rename, owner, folder = os.replace, os.getpid(), ""
    seen = 0

    def replace(source: Any, target: Any, **options: Any) -> None:
        nonlocal seen, folder
        folder = folder or _folder(step)
        if os.getpid() == owner and folder in str(target):
            seen += 1
            if seen == order["at"]:
                _act(faults, step, order)
        rename(source, target, **options)

    os.replace = replace  # type: ignore[assignment]  # takes what that one takes


def _act(faults: Path, step: str, order: Mapping[str, Any]) -> None:
    number = len(list(faults.glob(f"{step}.*.reached")))
    if number >= order.get("times", 1):
        return
    partial = faults / f"{step}.{number}.writing"
    partial.write_text(str(os.getpid()))
    os.rename(partial, faults / f"{step}.{number}.reached")
    if order["do"] == "memory":
        raise MemoryError
    if order["do"] == "device memory":
        import torch

        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    if order["do"] == "segfault":
        import ctypes

        ctypes.string_at(0)
    while not (faults / f"{step}.go").exists():
        time.sleep(0.02)


def _begin() -> None:
    place = os.environ.get("OSCAR_FAULTS")
    step = _step() if place else ""
    if not place or not step:
        return
    orders = json.loads(Path(place, "orders.json").read_text())
    if step in orders:
        _install(Path(place), step, orders[step])


_begin()
