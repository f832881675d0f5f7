"""A finished run -> a registered version: gathers its model folders and what is known of them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from flows.dataset import read_digest
from flows.errors import MissingModelError
from flows.identity import IDENTITY
from flows.lineage import Origin, make_lineage, origin_of, parents_of
from flows.models import Registry, Version
from flows.report.metrics_file import read_metrics
from storage.artifacts import files_below, fingerprint, read_done, sha256_of
from storage.sources import local_path

OUTPUTS = {"train": "model", "train_detector": "detector"}
"""Stage -> its output that is a model."""
DETECTOR_STEP = "train_detector"
METRICS = "metrics.json"


def register_run(
    registry: Registry, *, config: str, folders: Mapping[str, str], data: Mapping[str, Any]
) -> Version:
    """Keep the models of a finished run, its detector included, as a new version.

    Args:
        registry: of that run.
        config: its resolved configuration as YAML.
        folders: step -> name of its folder.
        data: digests of what it learned from.

    Raises:
        MissingModelError: A step is not finished, or the run trains no model.
        SpoiledModelError: A model is not what its step, or its version, made.
    """
    out = registry.run.path
    settings = yaml.safe_load(config) or {}
    models: dict[str, Path] = {}
    origins: dict[str, Origin] = {}
    for step, name in folders.items():
        done = read_done(out / name)
        if done is None:
            raise MissingModelError(f"{out}: {step} is not finished; oscar-flow resume {out}")
        output = OUTPUTS.get(_stage_of(out / name))
        if output is not None:
            models[step] = out / name / output
            origins[step] = origin_of(out / name, done.fingerprint)
    named = settings.get("detector_weights")
    given = local_path(str(named)) if named else None
    if given and models:
        models[DETECTOR_STEP] = given
        origins[DETECTOR_STEP] = Origin(fingerprint=_digest_of_folder(given))
    start = settings.get("warm_start")
    lineage = make_lineage(
        models=origins,
        data=data,
        config=config,
        parents=parents_of(
            {
                "start": Path(start) if start else None,
                "detector": given,
            },
            registry.path,
        ),
        metrics=_metrics_of(out, folders),
        languages=_languages_of(settings),
    )
    return registry.register(models, lineage, config)


def register_finished(registry: Registry) -> Version:
    """The same for a run that was started by hand, from what its folder says.

    Raises:
        MissingModelError: There is no finished run.
    """
    run = registry.run
    try:
        folders = json.loads(run.steps.read_text(encoding="utf-8"))
        config = run.config.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise MissingModelError(f"{run.path}: no run here; oscar-flow run CONFIG") from error
    digest = read_digest(run)
    data = {} if digest is None else digest.as_json()
    return register_run(registry, config=config, folders=folders, data=data)


def _stage_of(folder: Path) -> str:
    try:
        identity = json.loads((folder / IDENTITY).read_text(encoding="utf-8"))
        return str(identity["stage"])
    except (OSError, ValueError, KeyError):
        return ""


def _metrics_of(out: Path, folders: Mapping[str, str]) -> dict[str, float]:
    """What the report's step measured; nothing where a plan has no report."""
    path = out / folders.get("report", "") / METRICS
    return read_metrics(path) if path.is_file() else {}


def _languages_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    tasks = (settings.get("tasks") or {}).values()
    spoken = {str((task.get("settings") or {}).get("language", "zh")) for task in tasks}
    return tuple(sorted(spoken))


def _digest_of_folder(folder: Path) -> str:
    files = {path.relative_to(folder).as_posix(): sha256_of(path) for path in files_below(folder)}
    return fingerprint("", 0, None, {}, files)
