"""Where registered models come from: data, code, configuration, parents, metrics."""

import json
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flows.identity import IDENTITY
from flows.run_folder import utc_now

_PACKAGES = ("oscar-flow", "torch", "transformers")
_PARENTS = {"start": "its weights", "detector": "its detector"}
"""Inputs of a step that are models of earlier versions -> what was taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Of one model folder.

    fingerprint:   of the step that made it, or content digest of a folder from outside
    stage:         "" for a folder from outside
    stage_version: of the stage's code
    outside:       name -> content digest of what the step took from outside the run
    """

    fingerprint: str
    stage: str = ""
    stage_version: int = 0
    outside: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Of one version.

    version:       its number; "" before it has one
    created:       UTC
    code:          package -> release; `commit` of the source tree, where it is one
    data:          digests of photos, annotations and other files (`flows.dataset`)
    configuration: SHA-256 of the `config.yaml` beside
    parents:       what was taken -> version it was taken from
    models:        step -> where its model comes from
    metrics:       what the run measured
    languages:     of what the models read and say
    """

    version: str = ""
    created: str
    code: Mapping[str, str]
    data: Mapping[str, Any]
    configuration: str
    parents: Mapping[str, str]
    models: Mapping[str, Origin]
    metrics: Mapping[str, float]
    languages: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Who this work is: its models and what they reached."""
        models = {step: origin.fingerprint for step, origin in self.models.items()}
        text = json.dumps({"models": models, "metrics": dict(self.metrics)}, sort_keys=True)
        return sha256(text.encode()).hexdigest()

    def is_same_work(self, other: "Lineage") -> bool:
        """Whether both speak of the same models with the same metrics."""
        return self.digest == other.digest

    def as_version(self, name: str) -> "Lineage":
        """The same under its number."""
        return replace(self, version=name)


def make_lineage(
    *,
    models: Mapping[str, Origin],
    data: Mapping[str, Any],
    config: str,
    parents: Mapping[str, str],
    metrics: Mapping[str, float],
    languages: tuple[str, ...],
) -> Lineage:
    """The lineage of models that were finished just now.

    Args:
        models: step -> origin.
        data: digests of what was learned from.
        config: the run's configuration as YAML.
        parents: what was taken -> version.
        metrics: what the run measured.
        languages: of what the models read and say.
    """
    return Lineage(
        created=utc_now(),
        code=code_version(),
        data=data,
        configuration=sha256(config.encode()).hexdigest(),
        parents=parents,
        models=models,
        metrics=metrics,
        languages=languages,
    )


def read_lineage(path: Path) -> Lineage | None:
    """A version's lineage; None where there is none, or it cannot be read."""
    with suppress(OSError, ValueError, TypeError, AttributeError, KeyError):
        content = json.loads(path.read_text(encoding="utf-8"))
        models = {step: Origin(**origin) for step, origin in content.pop("models").items()}
        languages = tuple(content.pop("languages"))
        return Lineage(models=models, languages=languages, **content)
    return None


def origin_of(step_folder: Path, fingerprint: str) -> Origin:
    """Where the model of a finished step comes from, by what the step wrote about itself."""
    identity: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        identity = json.loads((step_folder / IDENTITY).read_text(encoding="utf-8"))
    return Origin(
        fingerprint=fingerprint,
        stage=str(identity.get("stage", "")),
        stage_version=int(identity.get("version", 0)),
        outside=dict(identity.get("outside", {})),
    )


def parents_of(places: Mapping[str, Path | None], registry: Path) -> dict[str, str]:
    """Versions that something was taken from.

    Args:
        places: "start" or "detector" -> folder it was taken from, if any.
        registry: folder of all versions.
    """
    home = registry.resolve()
    return {
        _PARENTS[name]: place.resolve().relative_to(home).parts[0]
        for name, place in places.items()
        if place is not None and place.resolve().is_relative_to(home)
    }


def code_version() -> dict[str, str]:
    """Releases of the packages that decide results, and the commit of a source tree."""
    code = {name: version(name) for name in _PACKAGES}
    code["python"] = platform.python_version()
    commit = _commit(Path(__file__).resolve().parents[1])
    if commit:
        code["commit"] = commit
    return code


def _commit(tree: Path) -> str:
    """The commit checked out in a source tree, `-dirty` behind it where files differ; or ""."""
    if not (tree / ".git").exists():
        return ""
    with suppress(OSError, subprocess.SubprocessError):
        command = ["git", "-C", str(tree), "describe", "--always", "--dirty", "--abbrev=40"]
        told = subprocess.run(
            [*command, "--exclude=*"], capture_output=True, text=True, timeout=20, check=True
        )
        return told.stdout.strip()
    return ""
