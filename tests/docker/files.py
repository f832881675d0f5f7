"""Reads what docker/ says: Dockerfiles as instructions, the compose file as services."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.builders_flows import ROOT

DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
COMPOSE = DOCKER / "compose.yaml"
EXAMPLE = DOCKER / "example.env"
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction of a Dockerfile, its continued lines joined."""

    name: str
    text: str


def instructions(path: Path) -> list[Instruction]:
    """All instructions of a Dockerfile in their order, comments left out."""
    kept = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(kept).replace("\\\n", " ")
    found = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [Instruction(name=name.upper(), text=" ".join(text.split())) for name, text in found]


def of(path: Path, name: str) -> list[str]:
    """What stands behind every instruction of one name."""
    return [each.text for each in instructions(path) if each.name == name]


def stages(path: Path) -> set[str]:
    """Names that `FROM ... AS NAME` gives."""
    return {text.split()[2] for text in of(path, "FROM") if len(text.split()) == 3}


def run_words(path: Path) -> list[list[str]]:
    """The words of every command of every RUN, without Docker's own options."""
    commands = [part for text in of(path, "RUN") for part in text.split("&&")]
    split = [shlex.split(command) for command in commands]
    return [[word for word in words if not word.startswith("--mount")] for words in split]


def compose() -> dict[str, Any]:
    """The compose file, not yet filled in."""
    content: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return content


def services() -> dict[str, dict[str, Any]]:
    """Service -> what is said about it."""
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def of_ours() -> dict[str, dict[str, Any]]:
    """The services that run `oscar-flow`."""
    return {
        name: service
        for name, service in services().items()
        if service["image"].startswith("oscar-flow:")
    }


def filled(text: str, values: dict[str, str]) -> str:
    """A value with its `${NAME:-default}` and `${NAME:?message}` filled in, as compose does."""
    return _VARIABLE.sub(lambda match: values.get(match[1]) or match[3] or "", text)


def variables() -> dict[str, str]:
    """Every variable the compose file names -> "?" where it must be set, "-" with a default."""
    return {match[1]: match[2] for match in _VARIABLE.finditer(COMPOSE.read_text())}
