"""A PostgreSQL server of one's own, as Debian packages it, for tests and benchmarks."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.prefect_server import free_port

OWNER = "postgres"
"""Who runs it where we are root: it refuses to be."""
USER = "prefect"


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """A cluster with one empty database.

    folder: of the cluster, open to its owner alone
    url:    with the password
    """

    folder: Path
    port: int
    url: str

    def start(self) -> None:
        """Start it, until it answers."""
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -k {self.folder}"
        log = self.folder / "log"
        _run("pg_ctl", "-w", "-D", self.folder / "db", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        """Stop it; whoever is connected is cut off."""
        _run("pg_ctl", "-w", "-m", "fast", "-D", self.folder / "db", "stop")


def programs() -> Path | None:
    """Folder of PostgreSQL's programs; Debian keeps them off the path."""
    found = [Path(place).resolve().parent for place in [shutil.which("initdb")] if place]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in found if (place / "psql").exists()), None)


@contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """A cluster in a new folder, started; stopped at the end.

    Raises:
        OSError, subprocess.SubprocessError: It cannot be made or started.
    """
    folder.mkdir(parents=True)
    password, secret = secrets.token_hex(8), folder / "secret"
    secret.write_text(password)
    if os.geteuid() == 0:
        for parent in (folder, *folder.parents):
            if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o001)  # so that the owner gets there
        shutil.chown(folder, OWNER)
        shutil.chown(secret, OWNER)
    port = free_port()
    where = f"127.0.0.1:{port}"
    cluster = Postgres(
        folder=folder, port=port, url=f"postgresql+asyncpg://{USER}:{password}@{where}/{USER}"
    )
    locale = ("-E", "UTF8", "--locale=C.UTF-8", "-A", "scram-sha-256")
    _run("initdb", "-D", folder / "db", "-U", USER, f"--pwfile={secret}", *locale)
    try:
        cluster.start()
        database = f"postgresql://{USER}:{password}@{where}/postgres"
        _run("psql", database, "-c", f"create database {USER}")
        yield cluster
    finally:
        cluster.stop()


def _run(program: str, *arguments: object) -> None:
    """A program of PostgreSQL's, as its owner; what it says goes into its log."""
    place = programs()
    if place is None:
        raise FileNotFoundError("PostgreSQL: initdb is not installed (Debian: postgresql)")
    user = OWNER if os.geteuid() == 0 else None
    subprocess.run(
        [str(place / program), *map(str, arguments)],
        check=True,
        cwd="/",
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
