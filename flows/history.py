"""What a run came to each time it ended: `<run>/history/0001.json`, 0002.json, ...

A run folder is used again and again, with other settings and other data; each end with other
metrics or from other folders leaves an entry, so that numbers can stand beside those before.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from flows.run_folder import RunFolder, utc_now
from storage.artifacts import atomic_write_json

FOLDER = "history"


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """One end of a run.

    number:        counts from 1
    folders:       step -> name of its folder then
    config_digest: SHA-256 of the resolved configuration
    config:        that configuration, YAML
    """

    number: int
    finished_at: str
    folders: Mapping[str, str]
    metrics: Mapping[str, float]
    config_digest: str
    config: str


def record(
    run: RunFolder, config_yaml: str, folders: Mapping[str, str], metrics: Mapping[str, float]
) -> None:
    """Write an entry, unless the newest one says the same of folders and metrics.

    Raises:
        OSError: It cannot be written.
    """
    entries = passed(run)
    if entries and entries[-1].folders == folders and entries[-1].metrics == metrics:
        return
    number = 1 + max((int(path.stem) for path in _paths(run)), default=0)
    atomic_write_json(
        run.path / FOLDER / f"{number:04d}.json",
        {
            "finished_at": utc_now(),
            "folders": dict(folders),
            "metrics": dict(metrics),
            "config_digest": sha256(config_yaml.encode()).hexdigest(),
            "config": config_yaml,
        },
    )


def passed(run: RunFolder) -> list[Passed]:
    """All ends of a run, oldest first; a damaged entry is left out."""
    entries = [_read(path) for path in _paths(run)]
    return [entry for entry in entries if entry is not None]


def previous_metrics(run: RunFolder) -> Mapping[str, float]:
    """Metrics of the newest end that came from other folders than the run's present ones.

    So it is the same before and after the present state is recorded. Empty where there is none.
    """
    present: object = None
    with suppress(OSError, ValueError):
        present = json.loads(run.steps.read_text(encoding="utf-8"))
    for entry in reversed(passed(run)):
        if entry.folders != present:
            return entry.metrics
    return {}


def _paths(run: RunFolder) -> list[Path]:
    found = (run.path / FOLDER).glob("*.json")
    return sorted((path for path in found if path.stem.isdigit()), key=lambda path: int(path.stem))


def _read(path: Path) -> Passed | None:
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        content = json.loads(path.read_text(encoding="utf-8"))
        return Passed(
            number=int(path.stem),
            finished_at=str(content["finished_at"]),
            folders=dict(content["folders"]),
            metrics={str(name): float(value) for name, value in content["metrics"].items()},
            config_digest=str(content["config_digest"]),
            config=str(content["config"]),
        )
    return None
