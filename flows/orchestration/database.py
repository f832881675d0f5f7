"""A database of the embedded Prefect server, migrated once and copied from then on.

Migrating an empty database takes 14 CPU seconds each time (specs/orchestration.md 2), copying the
one megabyte that comes out takes none. `python -m flows.orchestration.database` makes the
template inside the Python environment; `make` calls it after installing.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path

_NAME = "prefect.db"


def template() -> Path:
    """Where the migrated database of this environment's Prefect lies, or would lie."""
    return Path(sys.prefix) / f".prefect-{version('prefect')}" / _NAME


def provide(home: Path) -> None:
    """Put a migrated database into a Prefect home that has none, or one that cannot be read.

    Without the template it stays Prefect's to make one.
    """
    target = home / _NAME
    if target.exists() and not _is_readable(target):
        aside = f"{_NAME}.damaged-{int(time.time())}"
        for more in ("", "-wal", "-shm"):  # a log of the old one would be replayed into the new
            with suppress(FileNotFoundError):
                os.replace(f"{target}{more}", target.with_name(f"{aside}{more}"))
    if target.exists() or not template().is_file():
        return
    home.mkdir(parents=True, exist_ok=True)
    partial = home / f"{_NAME}.{os.getpid()}"
    with suppress(OSError):  # Prefect then migrates an empty one itself
        shutil.copyfile(template(), partial)
        with suppress(FileExistsError):  # another start was first, and may have it open
            os.link(partial, target)
        partial.unlink()


def _is_readable(database: Path) -> bool:
    """Whether SQLite knows it as its own; one that is busy is."""
    try:
        with closing(
            sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)
        ) as opened:
            opened.execute("select count(*) from sqlite_master")
    except sqlite3.OperationalError:
        return True
    except sqlite3.DatabaseError:
        return False
    return True


def make_template() -> bool:
    """Migrate an empty database into the environment; False when Prefect refuses."""
    home = template().parent
    if template().is_file():
        return True
    building = home.with_name(f"{home.name}.{os.getpid()}")
    ended = subprocess.run(
        [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"],
        env={
            **os.environ,
            "PREFECT_HOME": str(building),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        },
        capture_output=True,
        timeout=300,
    )
    if ended.returncode == 0 and (building / _NAME).is_file():
        home.mkdir(exist_ok=True)
        os.replace(building / _NAME, template())
    shutil.rmtree(building, ignore_errors=True)
    return template().is_file()


if __name__ == "__main__":
    sys.exit(0 if make_template() else 1)
