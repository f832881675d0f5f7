"""Runs a configuration in a folder: `oscar-flow run` and `demo`."""

import json
import os
import platform
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO

from flows.commands.reap import reap_left_behind
from flows.config import RunConfig, as_yaml
from flows.dataset import digest_of_plan, write_digest
from flows.digests import DigestBook
from flows.display import Display
from flows.file_sources import told_to
from flows.history import record
from flows.identity import PreparedStep, prepare
from flows.pipeline import plan_of
from flows.plan import Plan
from flows.report.metrics_file import read_metrics
from flows.run_folder import RunFolder, locked
from flows.runner import ALREADY_DONE, StepEvent, StepResult, Tell
from flows.schedule import Execution, run_plan
from storage.artifacts import atomic_write_bytes, atomic_write_text

REPORT_STEP = "report"
METRICS = "metrics.json"
PUBLISHED = ("report.html", METRICS)
"""What is copied from the report's step to the top of the run folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A run that came to its end.

    results: step -> how it came to be done
    folders: step -> name of its folder
    """

    run: RunFolder
    results: Mapping[str, StepResult]
    folders: Mapping[str, str]

    @property
    def has_news(self) -> bool:
        """Whether anything had to be done at all."""
        return any(result.state != ALREADY_DONE for result in self.results.values())


def run(config: RunConfig, out: Path, *, with_prefect: bool, stream: IO[str]) -> Finished:
    """Bring every step of a run to its done-mark; what is done is left untouched.

    Args:
        config: what to do.
        out: folder of the run.
        with_prefect: under Prefect (its embedded server, or PREFECT_API_URL's), else in a plain
            loop. Where nothing is left to do, Prefect is not started.
        stream: where progress is told.

    Raises:
        FlowError, StorageError: One line for the user.
    """
    plan = plan_of(config, told_to(stream))
    return run_prepared(plan, config, out, with_prefect=with_prefect, stream=stream)


def run_prepared(
    plan: Plan, config: RunConfig, out: Path, *, with_prefect: bool, stream: IO[str]
) -> Finished:
    """The same for a plan of one's own, with the configuration that goes with it."""
    folder = RunFolder(out)
    with locked(folder):
        book = DigestBook(folder.digests)
        prepared = prepare(plan, folder, book)
        data = digest_of_plan(plan, folder, book)
        _save(folder.config, as_yaml(config))
        folders = {name: prepared[name].folder.name for name in plan.names}
        _save(folder.steps, json.dumps(folders, indent=1) + "\n")
        with Display(plan.names, stream) as display:
            results = _finished(plan, prepared, display.tell)
            if results is not None and with_prefect:
                reap_left_behind(folder)
            if results is None:
                execution = Execution(
                    plan=plan,
                    prepared=prepared,
                    run=folder,
                    resources=config.resources,
                    tell=display.tell,
                    stop=threading.Event(),
                    scale=config.scale,
                )
                results = _executed(execution, with_prefect=with_prefect)
        write_digest(folder, data)
        if REPORT_STEP in prepared:
            publish(prepared[REPORT_STEP].folder, out)
            record(folder, as_yaml(config), folders, read_metrics(out / METRICS))
    return Finished(run=folder, results=results, folders=folders)


def opening_line(config: RunConfig, source: str, out: Path) -> str:
    """Versions, machine, threads, configuration: the first line of a run."""
    threads = config.resources.threads
    return (
        f"oscar-flow {version('oscar-flow')}, Python {platform.python_version()}, "
        f"torch {version('torch')}, {_device()}, {threads} threads on {os.cpu_count()} cores; "
        f"{source} -> {out}"
    )


def publish(made: Path, out: Path) -> None:
    """Copy page and metrics to the top of the run folder, where they differ."""
    for name in PUBLISHED:
        content = (made / name).read_bytes()
        place = out / name
        if not place.is_file() or place.read_bytes() != content:
            atomic_write_bytes(place, content)


def _finished(
    plan: Plan, prepared: Mapping[str, PreparedStep], tell: Tell
) -> dict[str, StepResult] | None:
    """All results, where every step is done; None where anything is left to do."""
    results: dict[str, StepResult] = {}
    for name in plan.names:
        done = prepared[name].done
        if done is None:
            return None
        results[name] = StepResult(step=name, state=ALREADY_DONE, seconds=0.0, summary=done.summary)
    for name in plan.names:
        tell(StepEvent(step=name, kind=ALREADY_DONE))
    return results


def _executed(execution: Execution, *, with_prefect: bool) -> dict[str, StepResult]:
    if not with_prefect:
        return run_plan(execution)
    from flows.orchestration.settings import prepare_environment

    prepare_environment(execution.run.path)  # before Prefect is imported
    from flows.orchestration.prefect_flow import run_with_prefect

    return run_with_prefect(execution, name=execution.run.path.name)


def _save(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        atomic_write_text(path, text)


def _device() -> str:
    """Where it computes, told without the seconds that importing torch takes."""
    return "GPU, float32" if Path("/dev/nvidiactl").exists() else "CPU (no GPU here), float32"
