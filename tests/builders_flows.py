"""Plans of fake stages, and a way to run them in this process."""

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from flows.digests import DigestBook
from flows.identity import prepare
from flows.limits import NO_LIMITS, StageLimits
from flows.plan import Plan, Step
from flows.run_folder import RunFolder
from flows.runner import StepEvent
from flows.schedule import Execution, Resources
from tests.fake_stage import Config

ROOT = Path(__file__).resolve().parents[1]


def make_step(
    name: str,
    *,
    takes: str | None = None,
    limit: float | None = None,
    limits: StageLimits = NO_LIMITS,
    **config,
) -> Step:
    """A step of the fake stage; `takes` names the step whose text it reads."""
    return Step(
        name=name,
        stage="tests.fake_stage",
        config=Config(**config),
        inputs={} if takes is None else {"text": f"{takes}.text"},
        limits=replace(limits, seconds=limit) if limit else limits,
    )


class Watched:
    """Collects the events of a run; lines of the children's logs apart."""

    def __init__(self) -> None:
        self.events: list[StepEvent] = []
        self.logs: list[StepEvent] = []

    def __call__(self, event: StepEvent) -> None:
        (self.logs if event.kind == "log" else self.events).append(event)

    def kinds(self, step: str) -> list[str]:
        return [event.kind for event in self.events if event.step == step]

    def messages(self, kind: str) -> list[str]:
        return [event.message for event in self.events if event.kind == kind]


def make_execution(
    folder: Path,
    steps: Sequence[Step],
    *,
    resources: Resources | None = None,
    tell: Callable[[StepEvent], None] | None = None,
) -> Execution:
    """Everything needed to run these steps in that folder."""
    run = RunFolder(folder)
    plan = Plan(tuple(steps))
    (folder / "state").mkdir(parents=True, exist_ok=True)
    return Execution(
        plan=plan,
        prepared=prepare(plan, run, DigestBook(run.digests)),
        run=run,
        resources=resources or Resources(parallel=2, threads=2, retries=2, retry_seconds=0.01),
        tell=tell or Watched(),
        stop=threading.Event(),
    )


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something to come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process lives; a zombie does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return status != "Z"


def python_environment() -> dict[str, str]:
    """The environment for a child that imports `tests`."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


PYTHON = sys.executable
