"""`oscar-flow server`: Prefect's server with its traps removed, until it is stopped.

Measured reasons: specs/orchestration.md 2, 3, 9. It runs in this process: one process to watch, to
stop, and to die.
"""

import json
import os
import socket
from collections.abc import Iterator, MutableMapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from flows.errors import ConfigError, OrchestratorError
from flows.orchestration.auth import (
    OwnPagesOnly,
    Password,
    is_given,
    is_loopback,
    served_names,
    server_password,
)
from flows.orchestration.database import provide
from flows.process import boot_id, start_ticks
from storage.artifacts import atomic_write_json

RECORD = "server.json"
"""Below the server's home: where it listens and which process it is, for runs to find it."""

SETTINGS = {
    "PREFECT_SERVER_UI_API_URL": "/api",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    "PREFECT_CLI_COLORS": "false",
}
_POSTGRES = "postgresql+asyncpg"
_REACHED_SECONDS = 20.0


def serve(
    *, port: int, host: str, database: str | None, home: Path, has_auth: bool, stream: IO[str]
) -> None:
    """Serve Prefect's API and pages until SIGTERM or Ctrl-C.

    Args:
        port: of both.
        host: address to listen at; other than loopback it asks for a password. Loopback asks only
            where the environment names one.
        database: SQLAlchemy URL; None for SQLite in `home`.
        home: folder of the database, the password and what else the server keeps.
        has_auth: False: no password anywhere.
        stream: where the address and the warnings go.

    Raises:
        ConfigError: The URL or the password is not of the right form.
        OrchestratorError: The port is taken, the database is not reached, or the server does not
            start.
    """
    local = is_loopback(host)
    _check_port(host, port)
    home = home.resolve()
    asks = has_auth and (not local or is_given(os.environ))
    password = server_password(home, os.environ) if asks else None
    url = database or os.environ.get("PREFECT_SERVER_DATABASE_CONNECTION_URL")
    if url is None:
        provide(home)
    else:
        _check_database(_database_url(url) or "")
    told = _Told(host, port, home, url, password, stream)
    _prepare_environment(home, _database_url(url), password, told.address)
    told.before()
    with _recorded(home, told.api, password):
        _run(host, port, only_local=local, told=told)
    told.after()


class _Told:
    """What the server says: where it is, how to use it, and who else can."""

    def __init__(
        self,
        host: str,
        port: int,
        home: Path,
        database: str | None,
        password: Password | None,
        stream: IO[str],
    ) -> None:
        name = f"[{host}]" if ":" in host else host
        self._listens = f"http://{name}:{port}"
        reached = socket.gethostname() if host in ("0.0.0.0", "::") else name
        self.address = f"http://{reached}:{port}"
        self.api = f"{self.address}/api"
        self._local = is_loopback(host)
        self._home = home
        self._database = masked(database) if database else f"SQLite in {home}"
        self._password = password
        self._stream = stream

    def before(self) -> None:
        self._say(f"starting Prefect's server at {self._listens}, database {self._database}")
        if self._local and self._password is None:
            self._say("warning: no password; whoever can log in to this machine can use it")
        elif self._local:
            self._say("it asks for the password that the environment names")
        elif self._password is None:
            self._say(f"warning: NO PASSWORD; whoever can reach {self._listens} can use it")
        else:
            self._say("warning: the password travels unencrypted; put TLS before it (a proxy)")

    def ready(self) -> None:
        self._say(f"pages  {self.address}\nuse    export PREFECT_API_URL={self.api}")
        if self._password is None:
            return
        if self._password.place is None:
            secret = "'(as given to the server)'"
        else:
            secret = f'"$(cat {self._password.place})"'
        self._say(f"       export PREFECT_API_AUTH_STRING={secret}")
        if self._password.is_new and self._stream.isatty():
            self._say(f"log in {self._password.text}   (shown this once)")

    def after(self) -> None:
        self._say("server stopped")

    def _say(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()


def masked(url: str) -> str:
    """A database URL without its password, for messages."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username}:***@{host}").geturl()


def _prepare_environment(
    home: Path, database: str | None, password: Password | None, address: str
) -> None:
    """Set Prefect's variables before it is imported; what the user has set wins."""
    environment: MutableMapping[str, str] = os.environ
    for name, value in SETTINGS.items():
        environment.setdefault(name, value)
    environment.setdefault("PREFECT_HOME", str(home))
    if database is not None:
        environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database
    if password is not None:
        environment["PREFECT_SERVER_API_AUTH_STRING"] = password.text
        environment.setdefault("PREFECT_SERVER_CSRF_PROTECTION_ENABLED", "true")
    else:
        environment.pop("PREFECT_SERVER_API_AUTH_STRING", None)
    # its own pages need no leave, and Prefect's default lets every page of the world read answers
    environment.setdefault("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", address)


def _database_url(url: str | None) -> str | None:
    """With the driver that Prefect needs."""
    if url is None:
        return None
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ConfigError("--db: give a URL, e.g. postgresql+asyncpg://user:password@host/prefect")
    if scheme in ("postgres", "postgresql"):
        return f"{_POSTGRES}://{rest}"
    if scheme not in (_POSTGRES, "sqlite+aiosqlite"):
        raise ConfigError(f"--db: {scheme}: only postgresql+asyncpg and sqlite+aiosqlite")
    return url


def _check_port(host: str, port: int) -> None:
    """Find out early whether the address can be had.

    Raises:
        OrchestratorError: It is taken, or not of this machine.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        with closing(socket.socket(family, kind, protocol)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise OrchestratorError(
            f"{host}:{port}: {error.strerror}; stop what listens there, or choose another --port"
        ) from error


def _check_database(url: str) -> None:
    """Connect once, so that a wrong URL is one line.

    Raises:
        OrchestratorError: It is not reached, or refuses.
    """
    if not url.startswith(_POSTGRES):
        return
    import asyncio

    import asyncpg

    async def connect() -> None:
        connection = await asyncpg.connect(
            url.replace(_POSTGRES, "postgresql", 1), timeout=_REACHED_SECONDS
        )
        await connection.close()

    try:
        asyncio.run(connect())
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise OrchestratorError(f"{masked(url)}: {said}; check --db") from error


@contextmanager
def _recorded(home: Path, api: str, password: Password | None) -> Iterator[None]:
    """Leave word of this server while it runs; the record of a killed one names a dead process."""
    home.mkdir(parents=True, exist_ok=True)
    record = home / RECORD
    atomic_write_json(
        record,
        {
            "api": api,
            "has_auth": password is not None,
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
            record.unlink()


def running_server(home: Path) -> str | None:
    """API address of a server that lives on this machine and keeps that home; None without one."""
    try:
        known = json.loads((home / RECORD).read_text(encoding="utf-8"))
        lives = (
            known["host"] == socket.gethostname()
            and known["boot_id"] == boot_id()
            and start_ticks(known["pid"]) == known["start_ticks"]
        )
        return str(known["api"]) if lives else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _run(host: str, port: int, *, only_local: bool, told: _Told) -> None:
    import uvicorn
    from prefect.server.api.server import create_app

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            told.ready()

    hosts = served_names(host, os.environ) if only_local else None
    app: Any = OwnPagesOnly(create_app(final=True), hosts=hosts)
    server = Server(
        uvicorn.Config(
            app,
            host=host.strip("[]"),
            port=port,
            log_level="warning",
            lifespan="on",
            timeout_graceful_shutdown=5,
            server_header=False,
        )
    )
    try:
        server.run()
    except KeyboardInterrupt:
        return  # uvicorn raises the signal again that it ended by
    except SystemExit as error:
        raise OrchestratorError("Prefect's server did not start; see the lines above") from error
