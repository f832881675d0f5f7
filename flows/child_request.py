"""What a step's child is given: its request, its environment, how many devices."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from flows.child import Request, smaller_config
from flows.identity import PreparedStep, config_as_json
from flows.scale import Scale, engine_of


def request_of(
    prepared: PreparedStep, scale: Scale, *, attempt: int, halvings: int, seconds_before: float
) -> Request:
    """What the child is asked to do.

    Args:
        prepared: the step.
        scale: on how many processes and machines.
        attempt: number of this try at the step.
        halvings: how often its batches are to be halved.
        seconds_before: spent on the same work by earlier tries.
    """
    return Request(
        stage=prepared.step.stage,
        config=_as_mapping(config_as_json(prepared.step.config)),
        inputs={name: _as_text(place) for name, place in prepared.inputs.items()},
        outputs={name: str(place) for name, place in prepared.outputs.items()},
        folder=str(prepared.folder),
        fingerprint=prepared.fingerprint,
        halvings=halvings,
        seconds_before=seconds_before,
        scale=asdict(scale),
        attempt=attempt,
    )


def child_environment(threads: int, own: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a stage: this one's, its number of threads, no network, no analytics."""
    count = str(threads)
    return {
        **(os.environ if own is None else own),
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "NUMEXPR_NUM_THREADS": count,
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while they wait slow busy machines down
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
        "MALLOC_ARENA_MAX": "2",
    }


def can_shrink(module: ModuleType, config: Any, halvings: int = 0) -> bool:
    """Whether one halving more lets the stage do the same work with less memory."""
    smaller = smaller_config(module, config, halvings + 1)
    return bool(smaller != smaller_config(module, config, halvings))


def num_devices(module: ModuleType, scale: Scale) -> int:
    """How many devices the step's processes on this machine use, where there are any."""
    if not getattr(module, "USES_DEVICE", False):
        return 0
    engine = engine_of(getattr(module, "SPREADS", None), scale)
    if engine == "ray" and scale.ray_address:
        return 0  # the cluster keeps its own books
    return 1 if engine == "local" else scale.workers


def _as_text(place: Path | Mapping[str, Path]) -> str | dict[str, str]:
    if isinstance(place, Path):
        return str(place)
    return {name: str(each) for name, each in place.items()}


def _as_mapping(plain: object) -> Mapping[str, Any]:
    if not isinstance(plain, dict):
        raise TypeError("a stage's Config must be a dataclass")
    return plain
