"""Which server of `oscar-flow server` is running, so that runs find it without being told."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flows.process import boot_id, start_ticks
from storage.artifacts import atomic_write_json

HOME = ".prefect"
"""Beside the run folders: what Prefect keeps for them."""
RECORD = "server.json"
"""Below that home: where its server listens and which process it is."""


def home_of(run: Path) -> Path:
    """The home that the runs of one folder share."""
    return run.parent.resolve() / HOME


@contextmanager
def recorded(home: Path, api: str) -> Iterator[None]:
    """Leave word of this server while it runs; the word of a killed one names a dead process."""
    home.mkdir(parents=True, exist_ok=True)
    place = home / RECORD
    atomic_write_json(
        place,
        {
            "api": api,
            "pid": os.getpid(),
            "start_ticks": start_ticks(os.getpid()),
            "boot_id": boot_id(),
            "host": socket.gethostname(),
        },
    )
    try:
        yield
    finally:
        with suppress(OSError):
            place.unlink()


def running_server(home: Path) -> str | None:
    """API address of a server that lives on this machine and keeps that home; None without one."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads((home / RECORD).read_text(encoding="utf-8"))
        lives = (
            known["host"] == socket.gethostname()
            and known["boot_id"] == boot_id()
            and start_ticks(known["pid"]) == known["start_ticks"]
        )
        return str(known["api"]) if lives else None
    return None
