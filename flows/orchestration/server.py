"""`oscar-flow server`: Prefect's server with its traps removed, until it is stopped.

Measured reasons: specs/orchestration.md 2, 3, 9. It runs in this process: one process to watch, to
stop, and to die.
"""

import os
import socket
from collections.abc import MutableMapping
from contextlib import closing
from pathlib import Path
from typing import IO, Any

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
from flows.orchestration.report_page import ReportPages
from flows.orchestration.running import HOME, recorded
from storage.urls import masked

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
    shown = home.parent if home.name == HOME else None
    with recorded(home, told.api):
        _run(host, port, shown, password, told)
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


def _prepare_environment(
    home: Path, database: str | None, password: Password | None, address: str
) -> None:
    """Set Prefect's variables before it is imported; what the user has set wins."""
    environment: MutableMapping[str, str] = os.environ
    for name, value in SETTINGS.items():
        environment.setdefault(name, value)
    environment.setdefault("PREFECT_HOME", str(home))
    # Prefect writes its pages before it serves them, by default into the installed package
    environment.setdefault("PREFECT_UI_STATIC_DIRECTORY", str(home / "pages"))
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
        if type(error) is ValueError:  # what it could not read may be part of the password
            said = "not read as a URL; write / and @ in a password as %2F and %40"
        raise OrchestratorError(f"{masked(url)}: {said}; check --db") from error


def _run(host: str, port: int, runs: Path | None, password: Password | None, told: _Told) -> None:
    import uvicorn
    from prefect.server.api.server import create_app

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            told.ready()

    app: Any = create_app(final=True)
    if runs is not None:
        app = ReportPages(app, runs=runs, password=password)
    only = is_loopback(host) and password is None
    app = OwnPagesOnly(app, hosts=served_names(host, os.environ) if only else None)
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
