"""Runs the steps of a plan: each as soon as what it needs is there, a few side by side.

This is the plain way, without Prefect; `flows.orchestration` gives the same `Execution` to it.
"""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from flows.errors import CancelledError, FlowError
from flows.identity import PreparedStep
from flows.plan import Plan
from flows.run_folder import RunFolder
from flows.runner import Effort, StepResult, Tell, run_step
from flows.scale import LOCAL, Scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What of the machine a run may use; YAML section `resources`. No part of a fingerprint.

    parallel:      steps that may run side by side
    threads:       compute threads of a step that runs alone; side by side they share them
    retries:       how often in a row a step is tried again, without coming further, when its
                   failure may pass: full disk, want of memory, lost device, preemption, hanging
    retry_seconds: wait before the first retry; doubles
    """

    parallel: int = 2
    threads: int = 2
    retries: int = 3
    retry_seconds: float = 2.0

    def __post_init__(self) -> None:
        """Check that something can run at all."""
        if self.parallel < 1 or self.threads < 1:
            raise ValueError("resources.parallel and resources.threads must be 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One start of a plan: everything `run_step` needs, and the way to stop it.

    stop:  set to end all children; every waiting thread then raises `CancelledError`
    scale: on how many processes and machines the steps work that can be spread
    """

    plan: Plan
    prepared: Mapping[str, PreparedStep]
    run: RunFolder
    resources: Resources
    tell: Tell
    stop: threading.Event = field(default_factory=threading.Event)
    scale: Scale = LOCAL

    def run_step(self, name: str) -> StepResult:
        """Bring one step to its done-mark; threads by whether it may have company."""
        resources = self.resources
        alone = resources.parallel == 1 or not self.plan.has_company(name)
        shared = max(1, resources.threads // resources.parallel)
        return run_step(
            self.prepared[name],
            self.run,
            threads=resources.threads if alone else shared,
            effort=Effort(retries=resources.retries, retry_seconds=resources.retry_seconds),
            tell=self.tell,
            stop=self.stop,
            scale=self.scale,
        )


Submit = Callable[[str], "Future[StepResult]"]
"""Starts a step by name somewhere and returns at once."""


def run_plan(execution: Execution, submit: Submit | None = None) -> dict[str, StepResult]:
    """Run every step of the plan; steps that need nothing of each other run side by side.

    When a step fails, what does not stand on it goes on, so that finished work is kept; then the
    first failure is raised.

    Args:
        execution: plan, folders and resources.
        submit: how a step is started; None for threads of this process.

    Raises:
        FlowError: A step failed or the run was stopped.
    """
    if submit is not None:
        return _Loop(execution, submit).run()
    with ThreadPoolExecutor(execution.resources.parallel, "step") as pool:
        return _Loop(execution, lambda name: pool.submit(execution.run_step, name)).run()


class _Loop:
    """Steps waiting, running and over."""

    def __init__(self, execution: Execution, submit: Submit) -> None:
        self._execution = execution
        self._submit = submit
        self._waiting = list(execution.plan.names)
        self._running: dict[Future[StepResult], str] = {}
        self._results: dict[str, StepResult] = {}
        self._failures: list[Exception] = []

    def run(self) -> dict[str, StepResult]:
        try:
            while self._start_ready() or self._running:
                self._collect()
        except BaseException:
            self._execution.stop.set()
            raise
        if self._failures:
            told = [each for each in self._failures if not isinstance(each, CancelledError)]
            raise (told or self._failures)[0]
        return self._results

    def _start_ready(self) -> bool:
        started = False
        for name in list(self._waiting):
            free = self._execution.resources.parallel - len(self._running)
            if free <= 0 or self._execution.stop.is_set():
                break
            if self._execution.plan.needs(name) <= set(self._results):
                self._waiting.remove(name)
                self._running[self._submit(name)] = name
                started = True
        return started

    def _collect(self) -> None:
        over, _ = wait(self._running, timeout=0.5, return_when=FIRST_COMPLETED)
        for future in over:
            name = self._running.pop(future)
            try:
                self._results[name] = future.result()
            except (FlowError, OSError) as error:
                self._failures.append(error)
                if isinstance(error, CancelledError):
                    self._execution.stop.set()
