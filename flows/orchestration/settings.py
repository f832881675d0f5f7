"""Prefect's settings, put into this process's environment before Prefect is imported.

What the user has set wins. Measured values and their reasons: specs/orchestration.md 2, 9, 12.
"""

import os
from pathlib import Path

from flows.orchestration.database import provide

DEFAULTS = {
    "PREFECT_SERVER_UI_API_URL": "/api",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_CLI_COLORS": "false",
    "DO_NOT_TRACK": "1",
}


def prepare_environment(run_folder: Path) -> None:
    """Set what is not set; the runs of one folder share one Prefect home beside them.

    Args:
        run_folder: folder of the run; Prefect's home is `.prefect` in its parent.
    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("PREFECT_HOME", str(run_folder.parent.resolve() / ".prefect"))
    if not has_server():
        provide(Path(os.environ["PREFECT_HOME"]))


def has_server() -> bool:
    """Whether the user named a server; without one an embedded server is started."""
    return bool(os.environ.get("PREFECT_API_URL"))
