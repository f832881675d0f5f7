"""Carries what steps tell to Prefect's server: log lines, progress, what they made.

One thread of its own talks to the server, at most every two seconds; a server that is slow or gone
costs the run nothing but a line of warning.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate, LogCreate

from flows.family import resident_bytes
from flows.orchestration.artifact import Artifact, key_of
from flows.orchestration.errors import SERVER_ERRORS, said
from flows.orchestration.events import send_again
from flows.orchestration.report_page import report_link
from flows.progress import ProgressReport, clock
from flows.runner import StepEvent, Tell
from flows.schedule import Execution

EVERY_SECONDS = 2.0
LONG_SECONDS = 10.0
"""A step that works longer gets a progress artifact."""
MAX_LINES = 200
"""Log lines sent at a time; what is beyond stays in the step's log file."""
MAX_WAITING = 2_000
END_SECONDS = 30.0
"""How long the end of a run waits for a server that is gone: most restart in less."""
CALL_SECONDS = 10.0
"""How long it waits for a call that is under way."""
PREFECT = "prefect"
"""Name under which the server's troubles are told, as if it were a step."""


@dataclass(slots=True)
class _Watched:
    """One step: its task run, its start and latest progress."""

    task_run: UUID | None = None
    since: float = field(default_factory=time.monotonic)
    report: ProgressReport | None = None
    is_new: bool = False
    artifact: UUID | None = None
    state: str = "running"


class Reporter:
    """Tells the server about the steps of one flow run. Use as a context manager.

    Args:
        execution: whose steps it watches.
        flow_run: id of the flow run.
    """

    def __init__(self, execution: Execution, flow_run: UUID) -> None:
        self._execution = execution
        self._flow_run = flow_run
        self._lock = threading.Lock()
        self._steps: dict[str, _Watched] = {}
        self._lines: deque[LogCreate] = deque(maxlen=MAX_WAITING)
        self._num_dropped = 0
        self._over: deque[str] = deque()
        self._ending = threading.Event()
        self._patience = END_SECONDS
        self.is_lost = False
        self._thread = threading.Thread(target=self._work, name="reporter", daemon=True)

    def __enter__(self) -> "Reporter":
        logging.raiseExceptions = False  # Prefect's handler would print every line that is lost
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is not None:
            self._patience = 0.0  # somebody waits for the word of it
        self._ending.set()
        self._thread.join(self._patience + CALL_SECONDS)

    def joined(self, step: str, task_run: UUID) -> None:
        """A step begins as this task run; what it makes is shown beside it."""
        with self._lock:
            self._steps[step] = _Watched(task_run=task_run)

    def tell(self, event: StepEvent) -> None:
        """Take note of an event; returns at once."""
        with self._lock:
            watched = self._steps.setdefault(event.step, _Watched())
            if event.kind == "progress" and event.report is not None:
                watched.report, watched.is_new = event.report, True
            elif event.kind == "log":
                self._add_line(watched, event.level, event.message)
            elif event.kind in ("retry", "failed"):
                level = "WARNING" if event.kind == "retry" else "ERROR"
                self._add_line(watched, level, event.message)
                watched.state = "running" if event.kind == "retry" else event.kind
                watched.is_new = watched.artifact is not None
            elif event.kind == "done":
                watched.state, watched.is_new = f"done in {event.message}", True
                self._over.append(event.step)

    def _add_line(self, watched: _Watched, level: str, message: str) -> None:
        number = logging.getLevelNamesMapping().get(level, logging.INFO)
        self._num_dropped += len(self._lines) == MAX_WAITING
        self._lines.append(
            LogCreate(
                name="oscar-flow",
                level=number,
                message=message[:10_000] or " ",
                timestamp=datetime.now(UTC),
                flow_run_id=self._flow_run,
                task_run_id=watched.task_run,
            )
        )

    def _work(self) -> None:
        with suppress(*SERVER_ERRORS), get_client(sync_client=True) as client:
            while not self._ending.wait(EVERY_SECONDS):
                self._send_all(client, is_last=False)
            until = time.monotonic() + self._patience
            self._send_all(client, is_last=True)
            while self.is_lost and time.monotonic() < until:
                time.sleep(EVERY_SECONDS)
                self._send_all(client, is_last=True)

    def _send_all(self, client: SyncPrefectClient, *, is_last: bool) -> None:
        jobs: list[Callable[[SyncPrefectClient], object]] = [
            self._send_lines,
            self._send_progress,
            self._send_made,
        ]
        if is_last:
            jobs.append(self._send_end)
        if self.is_lost:
            jobs.insert(0, lambda client: client.hello().raise_for_status())
        for send in jobs:
            try:
                send(client)
            except SERVER_ERRORS as error:
                self._notice(error)
                return
        self._notice(None)

    def _notice(self, error: Exception | None) -> None:
        """Say once that the server is gone, and once that it is back."""
        if (error is not None) == self.is_lost:
            return
        self.is_lost = error is not None
        message = "its server answers again"
        if error is not None:
            message = f"its server does not answer ({said(error, 120)}); the run goes on"
        else:
            send_again(self._flow_run)
        self._execution.tell(StepEvent(step=PREFECT, kind="warning", message=message))

    def _send_lines(self, client: SyncPrefectClient) -> None:
        with self._lock:
            lines = [self._lines.popleft() for _ in range(min(MAX_LINES, len(self._lines)))]
            dropped, self._num_dropped = self._num_dropped + len(self._lines), 0
            self._lines.clear()
        if dropped and lines:
            where = self._execution.run.path / "logs"
            text = f"{dropped} more lines are in {where}"
            lines.append(lines[-1].model_copy(update={"message": text}))
        if lines:
            client.create_logs(lines)

    def _send_progress(self, client: SyncPrefectClient) -> None:
        with self._lock:
            now = time.monotonic()
            due = {
                name: watched
                for name, watched in self._steps.items()
                if watched.is_new
                and (watched.artifact is not None or now - watched.since > LONG_SECONDS)
                and watched.report is not None
            }
            for watched in due.values():
                watched.is_new = False
        for name, watched in due.items():
            percent, text = self._progress(name, watched)
            if watched.artifact is None:
                made = Artifact(
                    key=key_of("progress", name),
                    kind="progress",
                    content=percent,
                    description=text,
                )
                watched.artifact = self._create(client, made, watched.task_run)
            else:
                client.update_artifact(
                    watched.artifact, ArtifactUpdate(data=percent, description=text)
                )

    def _progress(self, step: str, watched: _Watched) -> tuple[float, str]:
        """Per cent, and the rest in words."""
        report = watched.report
        if watched.state.startswith("done"):
            return 100.0, f"**{step}**: {watched.state}"
        state = self._execution.run.read_state(step)
        memory = resident_bytes(state.family) if state and watched.state == "running" else 0
        lines = [
            f"**{step}**: {report}",
            f"{watched.state} for {clock(time.monotonic() - watched.since)}",
            *([f"{memory / 1e6:,.0f} MB of memory"] if memory else []),
        ]
        share = report.done / report.total if report and report.total else 0.0
        return round(100 * min(1.0, share), 1), "\n\n".join(lines)

    def _send_made(self, client: SyncPrefectClient) -> None:
        """What finished steps made that is worth a look."""
        while self._over:
            step = self._over.popleft()
            with self._lock:
                watched = self._steps[step]
            try:
                for made in self._made(step):
                    self._create(client, made, watched.task_run)
            except SERVER_ERRORS:
                self._over.appendleft(step)
                raise

    def _send_end(self, client: SyncPrefectClient) -> None:
        with self._lock:
            failed = [name for name, each in self._steps.items() if each.state == "failed"]
        if not failed:
            for made in self._made(None):
                self._create(client, made, None)

    def _made(self, step: str | None) -> list[Artifact]:
        """What a step made, or the whole run; what cannot be drawn costs no more than itself."""
        # what draws takes a second to import, and the first step need not wait for it
        from flows.orchestration import artifacts

        try:
            if step is not None:
                return list(artifacts.of_step(self._execution, step))
            link = report_link(self._execution.run)
            return list(artifacts.of_run(self._execution, link))
        except Exception as error:
            message = f"nothing to look at of {step or 'the run'}: {said(error, 120)}"
            self._execution.tell(StepEvent(step=PREFECT, kind="warning", message=message))
            return []

    def _create(self, client: SyncPrefectClient, made: Artifact, task_run: UUID | None) -> UUID:
        return client.create_artifact(
            ArtifactCreate(
                key=made.key,
                type=made.kind,
                description=made.description,
                data=made.content,
                flow_run_id=self._flow_run,
                task_run_id=task_run,
            )
        ).id


def both(first: Tell, second: Tell) -> Tell:
    """Tell two watchers."""

    def tell(event: StepEvent) -> None:
        first(event)
        second(event)

    return tell
