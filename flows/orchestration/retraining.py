"""Prefect's side of a served run: its flows, states, the event of new data, what the UI shows."""

import re
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias, TypeVar

from prefect import Flow, State, flow, get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.events import emit_event
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.retrain import DataCheck, Outcome

UPDATED = "dataset.updated"
"""The event that starts a retraining."""
Ended: TypeAlias = State[Any]
"""How a flow run ended, with one line for its page."""
P = ParamSpec("P")
R = TypeVar("R")


def served_flow(name: str) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """A flow without retries and results of its own: what is done stands on disk."""

    def made(body: Callable[P, R]) -> Flow[P, R]:
        return flow(
            name=name,
            flow_run_name=_run_name,
            persist_result=False,
        )(body)

    return made


def run_resource(out: Path) -> str:
    """How Prefect's events name the data of a run folder: by this machine and its place."""
    return f"oscar-flow.dataset.{socket.gethostname()}{out.absolute()}"


def completed(message: str) -> Ended:
    """The flow came to its end."""
    say(message)
    return Completed(message=message)


def failed(message: str) -> Ended:
    """The flow did not; one line says why. The UI's Retry goes on from what is finished."""
    get_run_logger().error("%s", message)
    return Failed(message=message)


def say(line: str) -> None:
    """A line for the flow run's log."""
    get_run_logger().info("%s", line)


def too_late(seconds: float) -> bool:
    """Whether this flow run starts so long after its time that another one has taken its place.

    Prefect starts everything that came due while nobody served, all at once.
    """
    planned = flow_run.get_scheduled_start_time()
    if planned is None or not seconds:
        return False
    return datetime.now(UTC) - planned > timedelta(seconds=seconds)


def announce(check: DataCheck, out: Path) -> None:
    """Emit the event of new data, with the counts."""
    emit_event(
        UPDATED,
        resource={"prefect.resource.id": run_resource(out), "prefect.resource.name": out.name},
        payload={
            "reason": str(check),
            "counts": check.difference.counts(),
            "dataset": check.digest.total,
        },
    )


def show_outcome(outcome: Outcome, out: Path) -> None:
    """Put what the gate said, and what is current now, beside the flow run."""
    key = _artifact_key(out.name)
    rows = outcome.verdict.rows()
    if rows:
        create_table_artifact(
            table=rows, key=f"{key}-gate", description=f"Gate: {outcome.verdict.reason}"
        )
    create_markdown_artifact(
        "\n".join(_markdown(outcome, out)), key=f"{key}-models", description=str(outcome)
    )


def _markdown(outcome: Outcome, out: Path) -> Iterator[str]:
    yield f"# {str(outcome)[:1].upper()}{str(outcome)[1:]}"
    yield ""
    yield f"Data: {outcome.check}."
    yield ""
    yield f"Current version: {outcome.current or 'none'}, before: {outcome.before or 'none'}."
    if outcome.version is None:
        return
    yield ""
    yield "| metric | candidate |"
    yield "| --- | ---: |"
    for name, value in outcome.version.lineage.metrics.items():
        yield f"| {name} | {value:.4g} |"
    yield ""
    yield f"Report: `{out / 'report.html'}`"
    yield ""
    yield f"To go back: `oscar-flow models rollback {out}`"


def _run_name() -> str:
    """Telling names: which run folder, what for, when."""
    given = flow_run.get_parameters() or {}
    run = Path(str(given.get("out", "run"))).name
    when = datetime.now().astimezone().strftime("%m-%d %H:%M:%S")
    return f"{run} {str(flow_run.get_flow_name()).removeprefix('oscar-')} {when}"


def _artifact_key(name: str) -> str:
    """Lower-case letters, digits and dashes alone are allowed."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "run"
