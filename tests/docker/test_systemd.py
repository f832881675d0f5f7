"""The unit files: systemd understands them, and the commands in them are ours."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from flows.cli import app
from tests.docker.files import DOCKER

UNITS = sorted((DOCKER / "systemd").glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not there")
def test_systemd_understands_a_unit(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text().replace("User=oscar", "User=root")
    text = text.replace("/opt/oscar-flow/.venv/bin/oscar-flow", sys.executable)
    for other in UNITS:
        (tmp_path / other.name).write_text(text if other == unit else other.read_text())
    name = unit.name.replace("@.", "@mine.")
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)],
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
        capture_output=True,
        text=True,
    )
    about = [line for line in said.stderr.splitlines() if unit.stem.split("@")[0] in line]
    assert [line for line in about if "/opt/oscar-flow" not in line] == []


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_the_command_line_takes_its_command(unit: Path) -> None:
    [line] = re.findall(r"^ExecStart=(.*)$", unit.read_text(), flags=re.MULTILINE)
    program, *words = shlex.split(line.replace("%i", "mine"))
    assert program.endswith("/.venv/bin/oscar-flow")
    commands: Any = typer.main.get_command(app)
    assert commands.commands[words[0]].make_context(words[0], words[1:]).params


def test_secrets_are_in_files_of_their_own() -> None:
    for unit in UNITS:
        settings = [line for line in unit.read_text().splitlines() if not line.startswith("#")]
        assert not [line for line in settings if line.startswith("Environment=")]
        assert any(line.startswith("EnvironmentFile=") for line in settings)
