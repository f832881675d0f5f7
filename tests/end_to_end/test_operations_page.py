"""docs/operations.md: the command line takes its commands, the configuration its settings."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from flows.cli import app
from flows.config import read_config
from tests.builders_flows import ROOT

PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    found = re.findall(rf"^ *```{kind}\n(.*?)^ *```", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert found
    return found


def commands() -> list[list[str]]:
    lines = [line for text in blocks("sh") for line in text.replace("\\\n", " ").splitlines()]
    split = [shlex.split(line, comments=True) for line in lines]
    return [words[1:] for words in split if words and words[0] == "oscar-flow"]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_the_command_line_takes_a_command(words: list[str]) -> None:
    group: Any = typer.main.get_command(app)
    context = group.commands[words[0]].make_context(words[0], words[1:])
    settings = context.params.get("settings") or []
    assert read_config(Path("demo.yaml"), settings)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_the_configuration_takes_a_section(text: str, tmp_path: Path) -> None:
    path = tmp_path / "page.yaml"
    path.write_text(f"base: demo.yaml\n{text}")
    assert read_config(path) != read_config(Path("demo.yaml"))


def test_variables_named_are_known_to_the_program() -> None:
    ours = set(re.findall(r"\b(OSCAR_FLOW_[A-Z]+)\b", PAGE))
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "flows").rglob("*.py"))
    assert ours
    assert [name for name in ours if f'"{name}"' not in source] == []
