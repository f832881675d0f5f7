"""The health checks of the compose file, run as they stand there against servers that answer."""

import base64
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flows.orchestration.reachable import trouble
from tests.docker.files import services

PASSWORD = "oscar:not-a-real-one"


class Answers(BaseHTTPRequestHandler):
    """A Prefect server's manners: health for everybody, the rest for who knows the password."""

    healthy = True

    def do_GET(self) -> None:
        asked_well = self.headers.get("Authorization") == f"Basic {coded(PASSWORD)}"
        if self.path == "/api/health":
            self.send_response(200 if self.healthy else 503)
        else:
            self.send_response(200 if asked_well else 401)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def status_of(service: str, port: int, **environment: str) -> int:
    """Exit status of a service's check, the port in it and the program's place replaced."""
    words = [
        word.replace(":4200", f":{port}") for word in services()[service]["healthcheck"]["test"]
    ]
    assert words[:2] == ["CMD", "python"]
    command = [sys.executable, *words[2:]]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True
    ).returncode


def test_the_server_is_well_when_it_says_so(port: int) -> None:
    assert status_of("server", port) == 0


def test_the_server_is_not_well_when_it_says_so(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answers, "healthy", False)
    assert status_of("server", port) != 0


def test_a_worker_is_well_when_it_is_let_in(port: int) -> None:
    api = f"http://127.0.0.1:{port}/api"
    well = status_of("worker", port, PREFECT_API_URL=api, PREFECT_API_AUTH_STRING=PASSWORD)
    assert well == 0
    assert status_of("worker", port, PREFECT_API_URL=api, PREFECT_API_AUTH_STRING="oscar:no") == 1


def test_trouble_names_the_server_and_never_the_password(port: int) -> None:
    api = f"http://127.0.0.1:{port}/api"
    said = trouble({"PREFECT_API_URL": api, "PREFECT_API_AUTH_STRING": "oscar:wrong"})
    assert said == f"{api}: 401 Unauthorized"


def test_trouble_where_nothing_listens() -> None:
    assert "refused" in trouble({"PREFECT_API_URL": "http://127.0.0.1:1/api"})


@pytest.mark.parametrize("address", ["", "file:///etc/passwd", "prefect:4200"])
def test_trouble_where_no_server_is_named(address: str) -> None:
    assert trouble({"PREFECT_API_URL": address}) == "PREFECT_API_URL names no server"


def test_the_other_checks_ask_their_own_container() -> None:
    """pg_isready is tried against PostgreSQL by natively.py; wget is that of the store's Alpine."""
    words = {name: services()[name]["healthcheck"]["test"] for name in ("postgres", "store")}
    assert words["postgres"] == ["CMD", "pg_isready", "--username=prefect", "--dbname=prefect"]
    assert words["store"][1] == "wget"
    health = services()["store"]["environment"]["VGW_HEALTH"]
    assert words["store"][-1] == f"http://127.0.0.1:7070{health}"
