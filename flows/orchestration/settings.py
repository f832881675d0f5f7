"""Prefect's settings, put into this process's environment before Prefect is imported.

What the user has set wins. Measured values and their reasons: specs/orchestration.md 2, 9, 12.
"""

import os
from contextlib import suppress
from pathlib import Path

from flows.orchestration import auth
from flows.orchestration.database import provide
from flows.orchestration.running import home_of, running_server

DEFAULTS = {
    "PREFECT_SERVER_UI_API_URL": "/api",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    # the reporter waits for a server that restarts; each call need not wait again
    "PREFECT_CLIENT_MAX_RETRIES": "2",
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500,504",
    "PREFECT_API_REQUEST_TIMEOUT": "15",
    "PREFECT_CLI_COLORS": "false",
    "DO_NOT_TRACK": "1",
}
_KEY = "PREFECT_API_AUTH_STRING"


def prepare_environment(run_folder: Path) -> None:
    """Set what is not set; the runs of one folder share one Prefect home beside them.

    Args:
        run_folder: folder of the run; Prefect's home is `.prefect` in its parent. A server that
            `oscar-flow server` started for that home is used.
    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("PREFECT_HOME", str(home_of(run_folder)))
    home = Path(os.environ["PREFECT_HOME"])
    if os.environ.get(auth.VARIABLE):
        os.environ.setdefault(_KEY, os.environ[auth.VARIABLE])
    found = None if has_server() else running_server(home)
    if found is not None:
        os.environ["PREFECT_API_URL"] = found
        _take_kept_password(home)
    if not has_server():
        provide(home)


def has_server() -> bool:
    """Whether a server is named; without one an embedded server is started."""
    return bool(os.environ.get("PREFECT_API_URL"))


def _take_kept_password(home: Path) -> None:
    with suppress(OSError):  # another user's, or a server without
        os.environ.setdefault(_KEY, (home / auth.FILE).read_text(encoding="utf-8").strip())
