"""A PostgreSQL server of one's own on loopback, to be restarted under a run."""

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fault_cases.row import NotPossibleError

PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
"""Where Debian and Red Hat put the programs, which are not on PATH there."""
_OWNER = ("-U", "prefect")


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """A running server. url: of its one database, as SQLAlchemy takes it."""

    programs: Path
    folder: Path
    port: int
    url: str

    def restart(self) -> str:
        """Stop it as a crash does (it recovers from its log), and start it again."""
        before = self._process()
        _call(self, "pg_ctl", "-w", "-m", "immediate", "restart")
        return f"PostgreSQL was process {before}, is now {self._process()}"

    def _process(self) -> str:
        return (self.folder / "data" / "postmaster.pid").read_text().split()[0]

    def stop(self) -> None:
        """Stop it."""
        _call(self, "pg_ctl", "-w", "-m", "immediate", "stop")


@contextmanager
def postgres(port: int) -> Iterator[Postgres]:
    """A new, empty database `prefect`.

    Raises:
        NotPossibleError: PostgreSQL is not installed, or root has no user to run it as.
    """
    programs = _programs()
    word = secrets.token_hex(8)
    folder = Path(tempfile.mkdtemp(prefix="oscar-postgres-"))
    server = Postgres(
        programs=programs,
        folder=folder,
        port=port,
        url=f"postgresql+asyncpg://prefect:{word}@127.0.0.1:{port}/prefect",
    )
    (folder / "word").write_text(word)
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        shutil.chown(folder / "word", "postgres")
    try:
        _call(
            server,
            "initdb",
            *_OWNER,
            "-A",
            "scram-sha-256",
            f"--pwfile={folder}/word",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        )
        options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder}"
        _call(server, "pg_ctl", "-w", "-l", f"{folder}/log", "-o", options, "start")
        try:
            _call(server, "createdb", "-h", str(folder), "-p", str(port), *_OWNER, "prefect")
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    on_path = shutil.which("initdb")
    places = [Path(on_path).resolve().parent] if on_path is not None else []
    for pattern in PLACES:
        places += sorted(Path("/").glob(pattern.removeprefix("/")), reverse=True)
    for folder in places:
        if all((folder / name).is_file() for name in ("initdb", "pg_ctl", "createdb")):
            return folder
    raise NotPossibleError("PostgreSQL is not installed")


def _call(server: Postgres, program: str, *arguments: str) -> None:
    """Run one of its programs as a user it accepts, which root is not."""
    user: dict[str, str | int] = {}
    if os.geteuid() == 0:
        try:
            user = {"user": "postgres", "group": pwd.getpwnam("postgres").pw_gid}
        except KeyError:
            raise NotPossibleError("PostgreSQL does not run as root, no user postgres") from None
    ended = subprocess.run(
        [str(server.programs / program), *arguments],
        env={
            "PATH": "/usr/bin:/bin",
            "PGDATA": str(server.folder / "data"),
            "PGPASSWORD": (server.folder / "word").read_text(),
        },
        cwd=server.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,
        check=False,
        timeout=120,
        **user,  # type: ignore[call-overload]  # user and group, or neither
    )
    if ended.returncode != 0:
        raise NotPossibleError(f"{program}: {(ended.stderr or b'').decode()[-200:]}")
