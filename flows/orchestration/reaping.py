"""Flow runs that a kill left "Running" for ever, marked as what became of them.

Prefect learns nothing of a process that is killed. So each run leaves word on disk while it works,
`<run>/state/prefect.json`, and whoever comes next to the folder reads it: the process it names is
gone, or the end could not be told to the server at the time.
"""

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed, Crashed

from flows.orchestration.errors import SERVER_ERRORS
from flows.process import boot_id, start_ticks
from flows.run_folder import RunFolder
from storage.artifacts import atomic_write_json

NAME = "prefect.json"
RUNNING, COMPLETED = "running", "completed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Word of a flow run.

    flow_run_id:  of it
    outer_id:     of the flow run that it is part of; "" without
    api:          address of its server; "" for the embedded one
    outcome:      running, or completed where the server could not be told
    """

    flow_run_id: str
    outer_id: str
    api: str
    pid: int
    start_ticks: int | None
    boot_id: str
    host: str
    outcome: str = RUNNING

    @property
    def may_live(self) -> bool:
        """Whether the process may be working still; of another machine's nothing is known."""
        if self.outcome != RUNNING:
            return False
        if self.host != socket.gethostname():
            return True
        return self.boot_id == boot_id() and start_ticks(self.pid) == self.start_ticks


def leave_word(run: RunFolder, flow_run_id: UUID, outer_id: UUID | None) -> Left:
    """Write down that this process works on a flow run."""
    left = Left(
        flow_run_id=str(flow_run_id),
        outer_id=str(outer_id or ""),
        api=os.environ.get("PREFECT_API_URL", ""),
        pid=os.getpid(),
        start_ticks=start_ticks(os.getpid()),
        boot_id=boot_id(),
        host=socket.gethostname(),
    )
    with suppress(OSError):  # a full disk stops the steps, not the watching
        atomic_write_json(_place(run), asdict(left))
    return left


def keep_outcome(run: RunFolder, left: Left, outcome: str) -> None:
    """Write down an end that the server could not be told."""
    with suppress(OSError):
        atomic_write_json(_place(run), asdict(replace(left, outcome=outcome)))


def forget(run: RunFolder) -> None:
    """The flow run has ended, and the server knows."""
    with suppress(OSError):
        _place(run).unlink(missing_ok=True)


def left_behind(run: RunFolder) -> Left | None:
    """Word of a flow run that nobody works on any more; None without."""
    with suppress(OSError, ValueError, TypeError):
        left = Left(**json.loads(_place(run).read_text(encoding="utf-8")))
        return None if left.may_live else left
    return None


def reap(run: RunFolder) -> int:
    """Give the flow run that was left behind its end; trouble with the server only postpones it.

    Returns:
        How many flow runs were marked.
    """
    left = left_behind(run)
    if left is None or left.api != os.environ.get("PREFECT_API_URL", ""):
        return 0
    num = 0
    try:
        with get_client(sync_client=True) as client:
            for flow_run in _unfinished(client, left):
                _end(client, flow_run, left)
                num += 1
    except SERVER_ERRORS as error:
        logging.getLogger(__name__).info("%s: not reaped: %s", run.path, error)
        return num
    forget(run)
    return num


def _unfinished(client: SyncPrefectClient, left: Left) -> Iterator[FlowRun]:
    for each in filter(None, (left.flow_run_id, left.outer_id)):
        with suppress(ObjectNotFound):  # another database by now
            flow_run = client.read_flow_run(UUID(each))
            # an outer flow that ran again since is not this one's to end
            is_retried = each == left.outer_id and flow_run.run_count > 1
            if flow_run.state is None or is_retried:
                continue
            # one that ended well while its server was away may have been called failed for that
            is_wrong = left.outcome == COMPLETED and not flow_run.state.is_completed()
            if flow_run.state.is_running() or is_wrong:
                yield flow_run


def _end(client: SyncPrefectClient, flow_run: FlowRun, left: Left) -> None:
    of_it = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id]))
    for task_run in client.read_task_runs(flow_run_filter=of_it):
        if task_run.state is not None and not task_run.state.is_final():
            client.set_task_run_state(task_run.id, _state(left), force=True)
    client.set_flow_run_state(flow_run.id, _state(left), force=True)


def _state(left: Left) -> State[None]:
    if left.outcome == COMPLETED:
        return Completed(message="completed while the server did not answer")
    return Crashed(message=f"process {left.pid} on {left.host} is gone; the same command goes on")


def _place(run: RunFolder) -> Path:
    return run.path / "state" / NAME
