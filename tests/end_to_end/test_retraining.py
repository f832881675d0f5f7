"""Scheduled retraining on PostgreSQL as the benchmark shows it; `prefect.yaml` with a worker."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders_flows import PYTHON, ROOT
from tests.postgres import programs
from tests.prefect_server import ask, plain_environment

pytestmark = [pytest.mark.slow, pytest.mark.prefect]
POOL = "oscar-flow"


@pytest.mark.timeout(1500)
@pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed")
def test_new_photos_are_learned_from_judged_and_can_be_undone(tmp_path: Path) -> None:
    shown = subprocess.run(
        [PYTHON, "-W", "ignore", "-m", "benchmarks", "retraining", "--keep", str(tmp_path / "all")],
        env=plain_environment(OMP_NUM_THREADS="1"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1400,
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "NOT SO" not in shown.stdout
    last = shown.stdout.splitlines()[-1]
    assert last.startswith("retraining: ")
    assert int(last.split()[1]) >= 24


@pytest.mark.timeout(300)
def test_a_worker_runs_what_prefect_yaml_deploys(server: str, tmp_path: Path) -> None:
    """The look of the demo: its scenes are not drawn yet, so there is something to learn."""
    environment = plain_environment(
        PREFECT_API_URL=server, PREFECT_HOME=str(tmp_path / "home"), OSCAR_FLOW_WORK=str(tmp_path)
    )

    def prefect(*arguments: str) -> str:
        told = subprocess.run(
            [PYTHON, "-m", "prefect", "--no-prompt", *arguments],
            env=environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert told.returncode == 0, told.stdout + told.stderr
        return told.stdout

    template = "docker/work-pools/process.json"
    kind = ("--type", "process", "--base-job-template", template)
    prefect("work-pool", "create", POOL, *kind)
    prefect("deploy", "--all")
    prefect("deployment", "run", "oscar-check/demo")
    # the worker starts `python`, which is this environment's where that is active
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    prefect("worker", "start", "--pool", POOL, "--run-once")
    question = {"deployments": {"name": {"any_": ["demo"]}}, "sort": "START_TIME_ASC"}
    (looked,) = [each for each in ask(server, "flow_runs", question) if each["start_time"]]
    assert (looked["state_name"], looked["state"]["message"]) == (
        "Completed",
        "no version yet, 0 photos",
    )
