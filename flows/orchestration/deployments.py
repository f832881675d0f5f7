"""The deployments of a run: `check` by the clock, `retrain` by the event, `run` by hand."""

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import httpx
from anyio.abc import TaskGroup
from prefect import Flow, State
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import (
    ConcurrencyLimitConfig,
    ConcurrencyLimitStrategy,
    FlowRun,
    StateType,
)
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.exceptions import ObjectNotFound
from prefect.runner import Runner
from prefect.schedules import Cron, Interval, Schedule
from prefect.states import Cancelled, Crashed
from prefect.types.entrypoint import EntrypointType

from flows.errors import ConfigError, OrchestratorError
from flows.family import stat_fields
from flows.orchestration.errors import SERVER_ERRORS, said
from flows.orchestration.retraining import UPDATED, run_resource
from flows.retrain import is_busy

_ONE = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
"""At most one at a time; another that comes meanwhile is dropped, the next look finds its data."""
_LATE_SECONDS = 3600.0
_GRACE_SECONDS = 30.0
_LOST = "its process is gone; the next look finds what is left to do"
_MISSED = "Nobody served at its time; one look is made for all of them."


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What is served.

    config:   path of a YAML file, absolute, or name of a shipped one
    out:      folder of the run, absolute
    settings: `KEY=VALUE` on top of the configuration
    cron:     when to look for new data; None with `every`, or for no look but by hand
    every:    seconds between looks
    """

    config: str
    out: Path
    settings: tuple[str, ...]
    cron: str | None = None
    every: float | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """What each of the three flows is given."""
        return {"config": self.config, "out": str(self.out), "settings": list(self.settings)}

    def schedule(self) -> Schedule | None:
        """When to look.

        Raises:
            ConfigError: Both are given, or one that is no time.
        """
        if self.cron is not None and self.every is not None:
            raise ConfigError("--cron and --every: give one of them")
        try:
            if self.cron is not None:
                return Cron(self.cron, timezone=local_timezone())
            if self.every is not None:
                return Interval(timedelta(seconds=self.every))
        except (ValueError, OverflowError) as error:
            said = " ".join(str(error).split())[:200]
            raise ConfigError(f"--cron or --every: no such time: {said}") from error
        return None


def deployments_of(
    served: Served, *, check: Flow[..., Any], retrain: Flow[..., Any], run: Flow[..., Any]
) -> list[RunnerDeployment]:
    """The three deployments, named after the run folder.

    Raises:
        ConfigError: The times are not of the right form.
    """
    trigger = DeploymentEventTrigger(
        name=f"new data of {served.out.name}",
        expect={UPDATED},
        match={"prefect.resource.id": run_resource(served.out)},
        parameters={"reason": "{{ event.payload.reason }}"},
    )
    late = served.every if served.every is not None else _LATE_SECONDS
    schedule = served.schedule()
    return [
        _deployment(
            check,
            served,
            parameters={"late_after": 2 * late},
            **({} if schedule is None else {"schedule": schedule}),
        ),
        _deployment(retrain, served, triggers=[trigger]),
        _deployment(run, served),
    ]


def serve_deployments(deployments: list[RunnerDeployment], tell: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; a restart goes on with the schedule.

    Looks that came due while nobody served are dropped, one look is made for them all.

    Args:
        deployments: as `deployments_of` makes them.
        tell: told when the server goes away, and when it is back.

    Raises:
        OrchestratorError: Prefect's server does not answer, or refuses.
    """
    while True:
        try:
            with suppress(SystemExit):
                asyncio.run(_serve(deployments, tell))
            return
        except SERVER_ERRORS as error:
            raise OrchestratorError(
                f"Prefect: {said(error)}; start its server with oscar-flow server"
            ) from error
        except ExceptionGroup as group:  # of what goes on side by side
            if group.subgroup(_ServerReturnedError) is None:
                raise OrchestratorError(f"Prefect: {said(_first(group))}") from group
            tell("Prefect's server answers again")


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def local_timezone() -> str:
    """Name of this machine's time zone; UTC where it has none."""
    name = os.environ.get("TZ", "").removeprefix(":")
    if name:
        return name
    place = os.path.realpath("/etc/localtime")
    _, found, zone = place.partition("zoneinfo/")
    return zone if found else "UTC"


def _deployment(
    body: Flow[..., Any], served: Served, *, parameters: Mapping[str, Any] | None = None, **how: Any
) -> RunnerDeployment:
    return RunnerDeployment.from_flow(
        body,
        name=served.out.name,
        parameters={**served.parameters, **(parameters or {})},
        tags=["oscar-flow", served.out.name],
        concurrency_limit=_ONE,
        entrypoint_type=EntrypointType.MODULE_PATH,
        enforce_parameter_schema=True,
        **how,
    )


def _runner(home: str | None, tell: Callable[[str], None]) -> Runner:
    """With its scratch folder in Prefect's home.

    Its own choice is one folder of the machine's for all users, which the first of them owns.
    """
    usual, tempfile.tempdir = tempfile.tempdir, home
    try:
        return _KindRunner(tell, name="oscar-flow", pause_on_shutdown=False)
    finally:
        tempfile.tempdir = usual


async def _serve(deployments: list[RunnerDeployment], tell: Callable[[str], None]) -> None:
    runner = _runner(os.environ.get("PREFECT_HOME"), tell)
    async with get_client() as client:
        for deployment in deployments:
            await _refuse_another_run(client, deployment)
    added = [await runner.aadd_deployment(deployment) for deployment in deployments]
    async with get_client() as client:
        await _end_lost(client, added, Path((deployments[0].parameters or {})["out"]))
        await _drop_missed(client, added)
        if any(deployment.schedules for deployment in deployments):
            await client.create_flow_run_from_deployment(added[0], tags=["at start"])
    signal.signal(signal.SIGINT, runner.handle_sigterm)
    await runner.start()


class _ServerReturnedError(Exception):
    """The server was away and answers again: time to start over with it."""


class _Patient:
    """Asks for flow runs to start; a server that is away is said once, and asked again.

    After that all is started over as soon as no flow run is at work: what watches for Prefect's
    button `Cancel` does not survive the gap, and what came due meanwhile is to be dropped.
    """

    def __init__(self, look: Callable[..., Awaitable[None]], tell: Callable[[str], None]) -> None:
        self._look = look
        self._tell = tell
        self._was_away = False

    async def look(self, task_group: TaskGroup | None = None) -> None:
        """Ask once.

        Raises:
            _ServerReturnedError: Start over.
            httpx.HTTPStatusError: The server refuses, e.g. the password.
        """
        try:
            if self._was_away and not _children():
                async with get_client() as client:
                    await client.hello()
                raise _ServerReturnedError
            await self._look(task_group)
        except (httpx.TransportError, httpx.HTTPStatusError) as error:
            if isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500:
                raise
            if not self._was_away:
                self._tell(f"Prefect's server does not answer ({said(error, 100)}); waiting")
            self._was_away = True


class _KindRunner(Runner):
    """Prefect's, without two habits that lose runs.

    Told to stop, it kills its flow runs at once: they stay "Running" in the pages and hold their
    slot. And it gives up for good, its flow runs with it, after half a minute without a server.
    """

    def __init__(self, tell: Callable[[str], None], **options: Any) -> None:
        super().__init__(**options)
        self._tell = tell

    async def __aenter__(self) -> Self:
        """Start, and from then on take a missing server for one that comes back."""
        await super().__aenter__()
        poller = self._scheduled_run_poller
        patient = _Patient(poller._get_and_submit_flow_runs, self._tell)
        poller._get_and_submit_flow_runs = patient.look  # type: ignore[method-assign]  # no option
        return self

    def handle_sigterm(self, *args: Any, **kwargs: Any) -> None:
        """SIGTERM to each, a while to obey, then this process ends and with it what is left."""
        waiting = _children()
        for pid in waiting:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + _GRACE_SECONDS
        while waiting and time.monotonic() < end:
            time.sleep(0.1)
            waiting = [pid for pid in waiting if _lives(pid)]
        raise SystemExit(0)


def _lives(pid: int) -> bool:
    with suppress(OSError):
        return stat_fields(pid)[0] != "Z"
    return False


def _children() -> list[int]:
    """Processes that this one has started."""
    tasks = Path(f"/proc/{os.getpid()}/task")
    return [int(pid) for task in tasks.glob("*/children") for pid in task.read_text().split()]


async def _flow_runs(
    client: PrefectClient, deployments: list[UUID], *states: StateType
) -> list[FlowRun]:
    return await client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=deployments)),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states)))
        ),
    )


async def _end_lost(client: PrefectClient, deployments: list[UUID], out: Path) -> None:
    """Mark runs whose process a kill took; they would hold the only slot.

    A run that goes on by itself, after its server process was killed, holds the run folder.
    """
    if is_busy(out):
        return
    unfinished = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)
    for each in await _flow_runs(client, deployments, *unfinished):
        lost: State[None] = Crashed(message=_LOST)
        await client.set_flow_run_state(each.id, lost, force=True)


async def _refuse_another_run(client: PrefectClient, deployment: RunnerDeployment) -> None:
    """Two run folders of one name would overwrite each other's deployments."""
    try:
        known = await client.read_deployment_by_name(f"{deployment.flow_name}/{deployment.name}")
    except ObjectNotFound:
        return
    other = known.parameters.get("out")
    if other != (deployment.parameters or {}).get("out"):
        raise ConfigError(
            f"{deployment.flow_name}/{deployment.name} is served from {other} already; choose "
            "another name with --out, or delete that deployment in Prefect's pages"
        )


async def _drop_missed(client: PrefectClient, deployments: list[UUID]) -> None:
    """Cancel looks by the clock whose time has passed; what somebody asked for stays."""
    now = datetime.now(UTC)
    for each in await _flow_runs(client, deployments, StateType.SCHEDULED):
        if each.auto_scheduled and each.expected_start_time and each.expected_start_time < now:
            missed: State[None] = Cancelled(message=_MISSED)
            await client.set_flow_run_state(each.id, missed, force=True)
