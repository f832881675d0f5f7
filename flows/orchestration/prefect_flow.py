"""The plan as a Prefect flow: one task a step, each wrapping `run_step` and nothing else.

What is done, what is locked and what a step is stays on disk; Prefect schedules, logs and shows.
Parameters are names and paths; no cache, no persisted results (specs/orchestration.md 7). Where
Prefect fails in the middle, the plan goes on without it.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

from prefect import flow, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext, TagsContext, TaskRunContext
from prefect.futures import PrefectFuture
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.errors import OrchestratorError
from flows.orchestration import reaping
from flows.orchestration.embedded import embedded_server
from flows.orchestration.errors import SERVER_ERRORS, said
from flows.orchestration.events import bound_events, drop_events
from flows.orchestration.labels import PRODUCT, run_name, run_tags
from flows.orchestration.reporter import PREFECT, Reporter, both
from flows.orchestration.settings import has_server
from flows.plan import Plan
from flows.runner import ALREADY_DONE, StepEvent, StepResult
from flows.schedule import Execution, run_plan


def run_with_prefect(execution: Execution, *, name: str) -> dict[str, StepResult]:
    """Run a plan under Prefect: an embedded server, or the one PREFECT_API_URL names.

    A server that goes away in the middle costs a line of warning; the steps are done all the same.

    Args:
        execution: plan, folders and resources.
        name: of the run, part of the flow run's name in Prefect's pages.

    Raises:
        FlowError: A step failed or the run was stopped.
        OrchestratorError: The server that is named cannot be reached at the start.
    """
    watched = _WatchedRun(execution, name)
    try:
        with nullcontext() if has_server() else embedded_server():
            bound_events()
            reaping.reap(execution.run)
            watched.run()
    except SERVER_ERRORS as error:
        if has_server() and not watched.has_begun:
            raise OrchestratorError(
                f"Prefect: {said(error)}; start the server of PREFECT_API_URL, unset it for the "
                "embedded one, or add --no-prefect"
            ) from error
        return watched.finish_without(error)
    return watched.results


class _WatchedRun:
    """One flow run, and what is left of it when Prefect fails."""

    def __init__(self, execution: Execution, name: str) -> None:
        self._execution = execution
        self._name = name
        self._failure: BaseException | None = None
        self._left: reaping.Left | None = None
        self.has_begun = False
        self.results: dict[str, StepResult] = {}

    def run(self) -> None:
        """Run the flow to its end."""
        name = run_name(self._execution, self._name)

        @flow(
            name=PRODUCT,
            flow_run_name=name.replace("{", "(").replace("}", ")"),  # it would be a template
            task_runner=_threads(self._execution),
            persist_result=False,
        )
        def pipeline(run: str) -> None:
            self.has_begun = True
            # tags on task runs would make each ask the server for leave (concurrency by tag)
            with TagsContext(current_tags=set()):
                self._body(run)

        outer = FlowRunContext.get()
        self._outer = outer.flow_run.id if outer and outer.flow_run else None
        with ExitStack() as self._to_the_end, tags(*run_tags(self._execution, self._name)):
            try:
                pipeline(str(self._execution.run.path))
            except SERVER_ERRORS:
                raise  # the server does not know the end
            except BaseException:
                reaping.forget(self._execution.run)
                raise
        reaping.forget(self._execution.run)

    def finish_without(self, error: Exception) -> dict[str, StepResult]:
        """The server is gone, or never came: do what is left to do without it.

        Raises:
            FlowError: A step failed or the run was stopped.
        """
        if self._failure is not None:
            raise self._failure
        if self.has_begun:
            drop_events()
        message = f"{said(error, 120)}; the run goes on without it"
        self._execution.tell(StepEvent(step=PREFECT, kind="warning", message=message))
        if set(self.results) != set(self._execution.plan.names):
            self.results = run_plan(self._execution)
        if self._left is not None:
            reaping.keep_outcome(self._execution.run, self._left, reaping.COMPLETED)
            if has_server():  # it may be back by now
                reaping.reap(self._execution.run)
        return self.results

    def _body(self, run: str) -> None:
        flow_run = _flow_run_id()
        self._left = reaping.leave_word(self._execution.run, flow_run, self._outer)
        reporter = Reporter(self._execution, flow_run)
        try:
            with reporter:
                told = replace(self._execution, tell=both(self._execution.tell, reporter.tell))
                with _Tasks(told, run, reporter) as steps:
                    self.results.update(run_plan(told, steps.submit))
        except BaseException as error:
            self._failure = error
            raise
        finally:
            if reporter.is_lost:  # it has waited; Prefect need not wait again to say the end
                hurry = temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0})
                self._to_the_end.enter_context(hurry)


class _Tasks:
    """Submits steps as Prefect tasks, only such as are ready: a waiting one would hold a thread."""

    def __init__(self, execution: Execution, run: str, reporter: Reporter) -> None:
        self._execution = execution
        self._run = run
        self._reporter = reporter
        self._futures: dict[str, PrefectFuture[Any]] = {}
        self._plain = ThreadPoolExecutor(execution.resources.parallel, "step")

    def __enter__(self) -> "_Tasks":
        return self

    def __exit__(self, *error: object) -> None:
        self._plain.shutdown()

    def submit(self, name: str) -> "Future[StepResult]":
        """Start a step as a task, or plainly where Prefect will not."""
        outcome: Future[StepResult] = Future()
        needs = [
            self._futures[other]
            for other in shown_needs(self._execution.plan, name)
            if other in self._futures
        ]
        try:
            started = self._task(name, outcome).submit(name, self._run, wait_for=needs)
        except SERVER_ERRORS as error:
            self._do_plainly(name, outcome, said(error))
            return outcome
        self._futures[name] = started
        started.add_done_callback(lambda ended: self._settle(name, outcome, ended))
        return outcome

    def _task(self, name: str, outcome: "Future[StepResult]") -> Any:
        @task(name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False)
        def step(step: str, run: str) -> State[None]:
            self._reporter.joined(step, _task_run_id())
            try:
                result = self._execution.run_step(step)
            except BaseException as error:
                outcome.set_exception(error)
                raise
            outcome.set_result(result)
            folder = self._execution.prepared[step].folder.name
            shown = "AlreadyDone" if result.state == ALREADY_DONE else "Completed"
            return Completed(name=shown, message=f"{result.state}: {folder}")

        return step

    def _settle(self, name: str, outcome: "Future[StepResult]", ended: Any) -> None:
        """A task that Prefect ended before or beside its body must not leave the loop waiting."""
        if not outcome.done():
            state = ended.state
            self._do_plainly(name, outcome, f"{state.name}: {state.message}")

    def _do_plainly(self, name: str, outcome: "Future[StepResult]", reason: str) -> None:
        """Prefect would not run it: the step is done, and Prefect does not see it."""
        message = f"{name} goes on without it ({reason[:120]})"
        self._execution.tell(StepEvent(step=PREFECT, kind="warning", message=message))

        def work() -> None:
            try:
                outcome.set_result(self._execution.run_step(name))
            except BaseException as error:
                outcome.set_exception(error)

        self._plain.submit(work)


def shown_needs(plan: Plan, name: str) -> list[str]:
    """What a step waits for, without what those wait for: the arrows of the run graph."""
    needs = plan.needs(name)
    implied = {far for near in needs for far in plan.ancestors(near)}
    return sorted(needs - implied)


def _threads(execution: Execution) -> "TaskRunner[PrefectFuture[Any]]":
    # Prefect declares `task_runner` for one exact kind of future; its own runner has another.
    return cast(
        "TaskRunner[PrefectFuture[Any]]",
        ThreadPoolTaskRunner(max_workers=execution.resources.parallel),
    )


def _flow_run_id() -> UUID:
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise RuntimeError("Prefect began a flow without a flow run")
    return context.flow_run.id


def _task_run_id() -> UUID:
    context = TaskRunContext.get()
    if context is None:
        raise RuntimeError("Prefect began a task without a task run")
    return context.task_run.id
