"""Every command of the README's section `Operations`, as it is written there, in that order."""

import os
import re
import shlex
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from flows.config import as_yaml, read_config
from tests.builders_flows import PYTHON, ROOT, until
from tests.end_to_end.miniature import SIZES
from tests.prefect_server import answers, plain_environment

pytestmark = [pytest.mark.slow, pytest.mark.prefect, pytest.mark.timeout(1500)]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PORT = 4200
READY = {"server": "pages", "deploy": "serving"}
"""What a command that stays says once it can be used."""


def commands() -> list[str]:
    """Lines of the section's shell blocks."""
    section = README[README.index("\n## Operations\n") :].split("\n## ")[1]
    blocks = re.findall(r"^```sh\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    assert all(line.startswith("oscar-flow ") for line in lines)
    return lines


def write_configuration(folder: Path) -> None:
    """`mine.yaml` of the README's example, in small: drawn photos, one branch."""
    small = yaml.safe_load(SIZES)
    small["tasks"] = {"vqa": small["tasks"]["vqa"], "captioning": None, "retrieval": None}
    small |= {"pretrain": None, "score_detector": None}
    (folder / "mine.yaml").write_text(yaml.safe_dump(small))
    (folder / "mine.yaml").write_text(as_yaml(read_config(folder / "mine.yaml")))


@dataclass
class Day:
    """A folder, the commands given there so far, and what they said."""

    folder: Path
    said: dict[str, str] = field(default_factory=dict)
    staying: dict[str, "subprocess.Popen[str]"] = field(default_factory=dict)

    def give(self, line: str) -> None:
        """A line as a user types it; one that ends in & stays, and is waited for until ready."""
        words = shlex.split(line, comments=True)
        if words[-1] == "&":
            self._start(line, words[1])
            return
        ended = subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=900,
        )
        self.said[line] = ended.stdout + ended.stderr
        assert ended.returncode == 0, f"{line}\n{self.said[line]}"

    def _start(self, line: str, name: str) -> None:
        log = self.folder / f"{name}.log"
        with log.open("w") as stream:
            self.staying[name] = subprocess.Popen(
                ["bash", "-c", f"exec {line.split(' #')[0].rstrip().removesuffix('&')}"],
                cwd=self.folder,
                env=self._environment(),
                stdout=stream,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        until(lambda: READY[name] in log.read_text(), seconds=120)
        self.said[line] = log.read_text()

    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(Path(PYTHON).parent), os.environ["PATH"]])
        return plain_environment(PATH=path, NO_COLOR="1", COLUMNS="200")

    def end(self) -> dict[str, int]:
        """SIGTERM to what stays, the latest first; exit statuses."""
        statuses = {}
        for name, process in reversed(self.staying.items()):
            if process.poll() is None:
                process.terminate()
            try:
                statuses[name] = process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                statuses[name] = process.wait()
        return statuses

    def of(self, *parts: str) -> str:
        """What the first command with these words said."""
        return next(said for line, said in self.said.items() if all(part in line for part in parts))


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    """All commands, given one after another."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", PORT)) == 0:
            pytest.skip(f"port {PORT}, which the README's command takes, is in use")
    day = Day(tmp_path_factory.mktemp("day"))
    write_configuration(day.folder)
    try:
        for line in commands():
            day.give(line)
        yield day
    finally:
        day.end()


def test_the_day_goes_as_the_readme_says(day: Day) -> None:
    """One test, since one server and one run folder serve it all; every line was given above."""
    assert list(day.said) == commands()
    for check in (_pages, _status, _versions, _plan_and_run, _resumed, _compared, _cleaned):
        check(day)
    statuses = day.end()
    assert set(statuses) == {"server", "deploy"}
    assert all(status in (0, 130, -signal.SIGTERM) for status in statuses.values()), statuses
    until(lambda: not answers(f"http://127.0.0.1:{PORT}/api/health"))


Check = Callable[[Day], None]


def _pages(day: Day) -> None:
    assert f"http://127.0.0.1:{PORT}" in day.of("oscar-flow server")
    assert answers(f"http://127.0.0.1:{PORT}/api/health")
    assert answers(f"http://127.0.0.1:{PORT}/reports/mine")


def _status(day: Day) -> None:
    assert "finished" in day.of("status runs/mine --watch")


def _versions(day: Day) -> None:
    assert "0001" in day.of("models promote")
    assert "0001" in day.of("models list")
    promoted = [said for line, said in day.said.items() if "models promote" in line]
    assert "0002" in promoted[1]
    assert "0001" in day.of("models rollback")
    assert os.readlink(day.folder / "runs" / "mine" / "models" / "current") == "0001"


def _plan_and_run(day: Day) -> None:
    planned = day.of("plan mine.yaml --set encoder.num_layers=2")
    words = [line.split() for line in planned.splitlines()]
    rows = {each[0]: each[1] for each in words if len(each) > 1}
    assert rows["detect"] == "no"
    assert rows["vqa_train"] == "yes"
    assert "num_layers" in planned
    assert "1 -> 2" in planned


def _resumed(day: Day) -> None:
    resumes = [said for line, said in day.said.items() if "resume runs/mine" in line]
    assert "nothing to do" in resumes[0]
    assert "set aside" in resumes[1]
    assert "vqa_train" in resumes[1]


def _compared(day: Day) -> None:
    compared = day.of("compare runs/mine runs/other")
    assert "vqa.accuracy" in compared
    assert "seed" in compared


def _cleaned(day: Day) -> None:
    assert "--yes" in day.of("clean runs/mine")
    assert "freed" in day.of("clean runs/mine --yes")
    assert not (day.folder / "runs" / "mine" / "discarded").exists()
    assert "reap" in day.of("doctor --reap") or "marked" in day.of("doctor --reap")
