"""The deployments of a run: `check` by the clock, `retrain` by the event, `run` by hand."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
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
    StateType,
)
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.runner import Runner
from prefect.schedules import Cron, Interval, Schedule
from prefect.states import Cancelled
from prefect.types.entrypoint import EntrypointType

from flows.errors import ConfigError, OrchestratorError
from flows.orchestration.retraining import UPDATED, run_resource

_ONE = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
"""At most one at a time; another that comes meanwhile is dropped, the next look finds its data."""
_LATE_SECONDS = 3600.0
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
        parameters={**served.parameters, "reason": "{{ event.payload.reason }}"},
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


def serve_deployments(deployments: list[RunnerDeployment]) -> None:
    """Serve until SIGTERM or Ctrl-C; a restart goes on with the schedule.

    Looks that came due while nobody served are dropped, one look is made for them all.

    Raises:
        OrchestratorError: Prefect's server does not answer, or refuses.
    """
    try:
        asyncio.run(_serve(deployments))
    except (RuntimeError, PrefectException, httpx.HTTPError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise OrchestratorError(
            f"Prefect: {said[:300]}; start it with oscar-flow server"
        ) from error


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


async def _serve(deployments: list[RunnerDeployment]) -> None:
    runner = Runner(name="oscar-flow", pause_on_shutdown=False)
    async with get_client() as client:
        for deployment in deployments:
            await _refuse_another_run(client, deployment)
    added = [await runner.aadd_deployment(deployment) for deployment in deployments]
    async with get_client() as client:
        await _drop_missed(client, added)
        if any(deployment.schedules for deployment in deployments):
            await client.create_flow_run_from_deployment(added[0], tags=["at start"])
    await runner.start()


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


async def _drop_missed(client: PrefectClient, deployments: list[Any]) -> None:
    """Cancel looks by the clock whose time has passed; what somebody asked for stays."""
    waiting = await client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=deployments)),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
        ),
    )
    now = datetime.now(UTC)
    for each in waiting:
        if each.auto_scheduled and each.expected_start_time and each.expected_start_time < now:
            missed: State[None] = Cancelled(message=_MISSED)
            await client.set_flow_run_state(each.id, missed, force=True)
