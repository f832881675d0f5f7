"""Prefect's own events, by which its server learns the states of tasks, when the server is gone.

They wait in a thread of Prefect that tries each for ten seconds or more, and the interpreter waits
for that thread at its end: 80 s for a run of four steps (measured with 3.8.8).
"""

import queue
from contextlib import suppress
from uuid import UUID

from prefect.events import emit_event
from prefect.events.clients import PrefectEventsClient
from prefect.events.worker import EventsWorker

from flows.orchestration.settings import has_server

_ATTEMPTS = 2
"""To reach a server that was there before, for each event; those sent in vain are kept, and sent
again with the next one that goes through. From the fourth on Prefect sleeps in between."""


def bound_events() -> None:
    """Let events of this process give up early on a server that is named."""
    if has_server():
        EventsWorker.set_client_override(PrefectEventsClient, reconnection_attempts=_ATTEMPTS)


def send_again(flow_run: UUID) -> None:
    """The server is back: what was sent in vain goes before this event."""
    emit_event(
        "oscar-flow.server.back", resource={"prefect.resource.id": f"prefect.flow-run.{flow_run}"}
    )


def drop_events() -> None:
    """Forget what is still waiting: the server is gone, and the process wants to end."""
    with suppress(AttributeError, queue.Empty):  # a private name; without it the end is late
        waiting = EventsWorker.instance()._queue
        while True:
            waiting.get_nowait()
