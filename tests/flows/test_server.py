"""`oscar-flow server`: who may use it, what it says, how it starts and ends."""

import asyncio
import io
import json
import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.server_auth import CALLS, PASSWORD, USER, Call, call, make_runs
from flows.errors import ConfigError, OrchestratorError
from flows.orchestration import auth
from flows.orchestration.report_page import ReportPages
from flows.orchestration.running import recorded, running_server
from flows.orchestration.server import masked, serve
from flows.orchestration.settings import prepare_environment
from flows.process import start_ticks
from tests.builders_flows import is_alive, until
from tests.prefect_server import (
    answers,
    free_port,
    plain_environment,
    serving,
    start_server,
    stop_server,
)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that asks for a password."""
    home = make_runs(tmp_path_factory.mktemp("guarded"))
    with serving(home, "--host", "0.0.0.0", OSCAR_FLOW_AUTH=f"{USER}:{PASSWORD}") as address:
        yield address


@pytest.mark.prefect
@pytest.mark.parametrize("asked", CALLS, ids=lambda asked: asked.name)
def test_each_call_is_answered_as_the_table_says(asked: Call, guarded: str, server: str) -> None:
    assert call(guarded if asked.has_auth else server, asked) == asked.expected


@pytest.mark.prefect
def test_a_run_finds_the_server_of_its_folder_and_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / ".prefect"
    port = free_port()
    process = start_server(home, port, "--host", "0.0.0.0")
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}/api/health"), seconds=120)
        password = (home / "auth").read_text().strip()
        assert stat.S_IMODE((home / "auth").stat().st_mode) == 0o600
        monkeypatch.setattr(os, "environ", plain_environment())
        prepare_environment(tmp_path / "run")
        assert os.environ["PREFECT_API_URL"].endswith(f":{port}/api")
        assert os.environ["PREFECT_API_AUTH_STRING"] == password
    finally:
        printed = stop_server(process)
    assert process.returncode == 0
    assert printed.endswith("server stopped\n")
    assert password.partition(":")[2] not in printed
    assert f'"$(cat {home / "auth"})"' in printed
    assert running_server(home) is None


@pytest.mark.prefect
def test_a_server_that_is_killed_is_not_found(tmp_path: Path) -> None:
    port = free_port()
    process = start_server(tmp_path, port)
    try:
        until(lambda: running_server(tmp_path) is not None, seconds=60)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert (tmp_path / "server.json").is_file()
    assert running_server(tmp_path) is None
    assert not is_alive(process.pid)


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("flows.example.org", False),
    ],
)
def test_only_loopback_goes_without_a_password(host: str, is_local: bool) -> None:
    assert auth.is_loopback(host) is is_local


def test_a_password_is_made_once_and_kept_for_its_owner(tmp_path: Path) -> None:
    made = auth.server_password(tmp_path, {})
    kept = auth.server_password(tmp_path, {})
    assert made.is_new
    assert not kept.is_new
    assert made.text == kept.text
    assert made.text.startswith("oscar:")
    assert len(made.text) > 30
    assert stat.S_IMODE((tmp_path / auth.FILE).stat().st_mode) == 0o600
    assert made.text not in repr(made)


def test_a_given_password_wins_and_leaves_nothing_behind(tmp_path: Path) -> None:
    given = auth.server_password(tmp_path, {"OSCAR_FLOW_AUTH": "me:secret:with:colons"})
    assert given.text == "me:secret:with:colons"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["secret", ":secret", "me:"])
def test_a_password_without_user_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="OSCAR_FLOW_AUTH: give it the form user:password"):
        auth.server_password(tmp_path, {"OSCAR_FLOW_AUTH": text})


def test_a_database_password_is_not_shown() -> None:
    shown = masked("postgresql+asyncpg://prefect:s3cret@127.0.0.1:5432/prefect")
    assert shown == "postgresql+asyncpg://prefect:***@127.0.0.1:5432/prefect"
    assert masked("sqlite+aiosqlite:///x.db") == "sqlite+aiosqlite:///x.db"


@pytest.fixture
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`serve` sets variables of this process."""
    monkeypatch.setattr(os, "environ", dict(os.environ))


def _serve(tmp_path: Path, **changed: Any) -> None:
    asked = {"port": free_port(), "host": "127.0.0.1", "database": None, "has_auth": True}
    serve(**{**asked, **changed}, home=tmp_path, stream=io.StringIO())


@pytest.mark.usefixtures("own_environment")
def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OrchestratorError, match="in use; stop what listens there, or choose"):
            _serve(tmp_path, port=taken.getsockname()[1])


@pytest.mark.usefixtures("own_environment")
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("prefect.db", "--db: give a URL"),
        ("mysql://me@host/db", "--db: mysql: only postgresql"),
    ],
)
def test_a_database_url_of_another_kind_is_refused(tmp_path: Path, url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        _serve(tmp_path, database=url)


@pytest.mark.usefixtures("own_environment")
def test_a_database_that_is_not_there_is_one_line_without_its_password(tmp_path: Path) -> None:
    url = f"postgresql://prefect:s3cret@127.0.0.1:{free_port()}/prefect"
    with pytest.raises(OrchestratorError, match="check --db") as caught:
        _serve(tmp_path, database=url)
    assert "s3cret" not in str(caught.value)


def test_a_record_of_another_process_with_the_same_number_is_no_server(tmp_path: Path) -> None:
    with recorded(tmp_path, "http://127.0.0.1:1/api"):
        assert running_server(tmp_path) == "http://127.0.0.1:1/api"
        record = json.loads((tmp_path / "server.json").read_text())
        assert record["start_ticks"] == start_ticks(os.getpid())
        (tmp_path / "server.json").write_text(json.dumps({**record, "start_ticks": 1}))
        assert running_server(tmp_path) is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "127.0.0.1:4200"}, 200),
        ({"host": "[::1]:4200"}, 200),
        ({"host": "elsewhere.example"}, 403),
        ({"host": ""}, 403),
        ({"host": "localhost:4200", "origin": "http://localhost:4200"}, 200),
        ({"host": "localhost:4200", "origin": "http://localhost:4201"}, 403),
        ({"host": "localhost:4200", "origin": "null"}, 403),
        ({"host": "localhost", "origin": "https://a.b", "x-forwarded-host": "a.b"}, 200),
        ({"host": "localhost", "origin": "https://a.b", "sec-fetch-site": "same-origin"}, 200),
        ({"host": "localhost", "sec-fetch-site": "same-site"}, 403),
        ({"host": "localhost", "sec-fetch-site": "none"}, 200),
    ],
)
def test_pages_from_elsewhere_are_turned_away(headers: dict[str, str], status: int) -> None:
    app = auth.OwnPagesOnly(_says_200, hosts=auth.served_names("127.0.0.1", {}))
    assert _status(app, "/api/admin/database/clear", headers) == status


def test_a_proxy_is_let_in_by_its_name() -> None:
    names = auth.served_names("127.0.0.1", {auth.HOSTS_VARIABLE: "flows.example.org, other"})
    app = auth.OwnPagesOnly(_says_200, hosts=names)
    assert _status(app, "/api/health", {"host": "flows.example.org"}) == 200
    assert _status(app, "/api/health", {"host": "flows.example.com"}) == 403


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("demo", 200),
        ("demo/", 200),
        ("other", 404),
        ("", 404),
        (".", 404),
        ("..", 404),
        ("../secret", 404),
        (".prefect", 404),
        ("demo/report.html", 404),
        ("link", 404),
        ("de\0mo", 404),
    ],
)
def test_only_reports_of_runs_are_shown(tmp_path: Path, name: str, status: int) -> None:
    make_runs(tmp_path)
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "secret")
    app = ReportPages(_says_200, runs=tmp_path / "runs", password=None)
    assert _status(app, f"/reports/{name}", {}) == status


async def _says_200(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


def _status(app: auth.App, path: str, headers: dict[str, str]) -> int:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(app(scope, receive, send))
    return int(sent[0]["status"])
