"""A real server as `oscar-flow server` starts it, and questions to it, for tests and benchmarks."""

import base64
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tests.builders_flows import PYTHON, ROOT, python_environment, until

_OURS = ("PREFECT_", "OSCAR_FLOW_", "DO_NOT_TRACK")


def plain_environment(**own: str) -> dict[str, str]:
    """This environment without anybody's settings of Prefect, and with one's own."""
    return {k: v for k, v in python_environment().items() if not k.startswith(_OURS)} | own


def free_port() -> int:
    """A port of loopback that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def start_server(
    home: Path, port: int, *arguments: str, **environment: str
) -> "subprocess.Popen[str]":
    """Start `oscar-flow server` in a process group of its own; it may not be ready yet."""
    command = [PYTHON, "-W", "ignore", "-m", "flows", "server", "--home", str(home)]
    return subprocess.Popen(
        [*command, "--port", str(port), *arguments],
        env=plain_environment(**environment),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@contextmanager
def serving(
    home: Path, *arguments: str, port: int | None = None, **environment: str
) -> Iterator[str]:
    """A server that answers; its API address. It is gone after."""
    chosen = port or free_port()
    server = start_server(home, chosen, *arguments, **environment)
    address = f"http://127.0.0.1:{chosen}/api"
    try:
        until(lambda: server.poll() is not None or answers(f"{address}/health"), seconds=120)
        assert server.poll() is None, server.communicate()[0]
        yield address
    finally:
        stop_server(server)


def stop_server(server: "subprocess.Popen[str]") -> str:
    """End a server kindly, and unkindly when that does not help; what it printed."""
    if server.poll() is None:
        server.terminate()
    try:
        return server.communicate(timeout=20)[0]
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        return server.communicate()[0]


def answers(address: str) -> bool:
    """Whether somebody says 200 there."""
    return status_of(address) == 200


def status_of(
    address: str,
    question: object = None,
    *,
    login: str = "",
    headers: Mapping[str, str] | None = None,
) -> int:
    """HTTP status of a question; 0 where nobody answers.

    Args:
        address: whole URL.
        question: JSON to POST; None asks by GET.
        login: "user:password"; "" without.
        headers: further ones.
    """
    try:
        with urlopen(_request(address, question, login, headers or {}), timeout=5) as answer:
            return int(answer.status)
    except HTTPError as error:
        error.close()
        return error.code
    except (URLError, OSError):
        return 0


def ask(
    server: str, what: str, question: object, *, login: str = "", csrf: bool = False
) -> list[dict[str, Any]]:
    """Records of one kind (`flow_runs`, `task_runs`, `artifacts`, `logs`) that a filter finds."""
    headers = csrf_headers(server, login) if csrf else {}
    request = _request(f"{server}/{what}/filter", question, login, headers)
    with urlopen(request, timeout=20) as answer:
        found: list[dict[str, Any]] = json.load(answer)
    return found


def csrf_headers(server: str, login: str = "") -> dict[str, str]:
    """What a server with protection against forged requests wants to see."""
    client = "tests"
    with urlopen(_request(f"{server}/csrf-token?client={client}", None, login, {})) as answer:
        token = json.load(answer)["token"]
    return {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client}


def _request(address: str, question: object, login: str, headers: Mapping[str, str]) -> Request:
    body = None if question is None else json.dumps(question).encode()
    request = Request(address, data=body, headers={"Content-Type": "application/json", **headers})
    if login:
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    return request
