"""The plan as a Prefect flow: one task a step, each wrapping `run_step` and nothing else.

What is done, what is locked and what a step is stays on disk; Prefect schedules, logs and shows.
Parameters are names and paths; no cache, no persisted results (specs/orchestration.md 7).
"""

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from typing import Any, cast

import httpx
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import PrefectException
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.errors import FlowError, OrchestratorError
from flows.orchestration.embedded import embedded_server
from flows.orchestration.settings import has_server
from flows.runner import StepResult
from flows.schedule import Execution, run_plan


def run_with_prefect(execution: Execution, *, name: str) -> dict[str, StepResult]:
    """Run a plan under Prefect: an embedded server, or the one PREFECT_API_URL names.

    Args:
        execution: plan, folders and resources.
        name: of the flow run, as shown in Prefect's pages.

    Raises:
        FlowError: A step failed or the run was stopped.
        OrchestratorError: Prefect's server cannot be reached.
    """
    # Prefect declares `task_runner` for one exact kind of future; its own runner has another.
    runner = cast(
        "TaskRunner[PrefectFuture[Any]]",
        ThreadPoolTaskRunner(max_workers=execution.resources.parallel),
    )

    @flow(
        name="oscar-flow",
        flow_run_name=name,
        task_runner=runner,
        persist_result=False,
    )
    def pipeline(run: str) -> None:
        results.update(_Tasks(execution, run).run())

    results: dict[str, StepResult] = {}
    try:
        with nullcontext() if has_server() else embedded_server():
            pipeline(str(execution.run.path))
    except (RuntimeError, PrefectException, httpx.HTTPError) as error:
        raise OrchestratorError(_in_one_line(error)) from error
    return results


def _in_one_line(error: Exception) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    if has_server():
        remedy = "start the server of PREFECT_API_URL, unset it for the embedded one"
    else:
        remedy = "the embedded server would not start: run the same command again"
    return f"Prefect: {said[:300]}; {remedy}, or add --no-prefect"


class _Tasks:
    """Submits steps as Prefect tasks, only such as are ready: a waiting one would hold a thread."""

    def __init__(self, execution: Execution, run: str) -> None:
        self._execution = execution
        self._run = run
        self._futures: dict[str, PrefectFuture[Any]] = {}

    def run(self) -> dict[str, StepResult]:
        return run_plan(self._execution, self._submit)

    def _submit(self, name: str) -> "Future[StepResult]":
        outcome: Future[StepResult] = Future()

        @task(name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False)
        def step(step: str, run: str) -> str:
            say = _logger_of_this_task()
            try:
                result = self._execution.run_step(step)
            except BaseException as error:
                say("error", str(error))
                outcome.set_exception(error)
                raise
            say("info", f"{result.state}: {self._execution.prepared[step].folder}")
            outcome.set_result(result)
            return result.state

        needs = [self._futures[other] for other in self._execution.plan.needs(name)]
        future = step.submit(name, self._run, wait_for=needs, return_state=False)
        self._futures[name] = future
        future.add_done_callback(lambda ended: _settle(outcome, name, ended))
        return outcome


def _settle(outcome: "Future[StepResult]", name: str, ended: Any) -> None:
    """A task that Prefect ended before or beside its body must not leave the loop waiting."""
    if not outcome.done():
        state = ended.state
        outcome.set_exception(
            FlowError(f"{name}: Prefect ended the task: {state.name}: {state.message}")
        )


def _logger_of_this_task() -> Callable[[str, str], None]:
    """Prefect's logger, taken while in the task's own thread."""
    logger = get_run_logger()

    def say(level: str, message: str) -> None:
        (logger.error if level == "error" else logger.info)("%s", message)

    return say
