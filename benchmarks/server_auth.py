"""Who may do what at Prefect's server: a table of calls, with what each is answered.

A server with password (as on any address but loopback) and one without, each really asked. Exit
status 1 when an answer is not the expected one.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.prefect_server import csrf_headers, serving, status_of

USER, PASSWORD = "oscar", "a-password-for-this-table"
ELSEWHERE = "http://elsewhere.example"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call, and the HTTP status it must get; of a websocket 101 where it may send events.

    has_auth: which of the two servers is asked
    login:    "", "wrong" or "right"
    csrf:     with a token against forged requests
    headers:  name and value of a further header
    """

    name: str
    path: str
    expected: int
    has_auth: bool = True
    writes: bool = False
    login: str = ""
    csrf: bool = False
    headers: tuple[str, str] | None = None


_WRITE = "/api/flow_runs/filter"
CALLS = (
    Call(name="health, for probes", path="/api/health", expected=200),
    Call(name="first page", path="/", expected=200),
    Call(name="pages (v2)", path="/v2/", expected=200),
    Call(name="what the pages need to log in", path="/ui-settings", expected=200),
    Call(name="read", path="/api/version", expected=401),
    Call(name="read, wrong password", path="/api/version", expected=401, login="wrong"),
    Call(name="read, right password", path="/api/version", expected=200, login="right"),
    Call(name="settings of the server", path="/api/admin/settings", expected=401),
    Call(name="description of the API", path="/api/openapi.json", expected=401),
    Call(name="token against forged requests", path="/api/csrf-token?client=x", expected=401),
    Call(name="write, no token", path=_WRITE, expected=403, writes=True),
    Call(name="write, token", path=_WRITE, expected=401, writes=True, csrf=True),
    Call(
        name="write, wrong password, token",
        path=_WRITE,
        expected=401,
        writes=True,
        login="wrong",
        csrf=True,
    ),
    Call(
        name="write, right password, no token",
        path=_WRITE,
        expected=403,
        writes=True,
        login="right",
    ),
    Call(
        name="write, right password, token",
        path=_WRITE,
        expected=200,
        writes=True,
        login="right",
        csrf=True,
    ),
    Call(
        name="write by a page from elsewhere",
        path=_WRITE,
        expected=403,
        writes=True,
        login="right",
        csrf=True,
        headers=("Origin", ELSEWHERE),
    ),
    Call(name="report of a run", path="/reports/demo", expected=401),
    Call(name="report of a run, right password", path="/reports/demo", expected=200, login="right"),
    Call(
        name="file outside the runs, right password",
        path="/reports/..%2Fsecret",
        expected=404,
        login="right",
    ),
    Call(name="events in", path="/api/events/in", expected=403),
    Call(name="events in, wrong password", path="/api/events/in", expected=403, login="wrong"),
    Call(name="events in, right password", path="/api/events/in", expected=101, login="right"),
    Call(name="loopback: read", path="/api/version", expected=200, has_auth=False),
    Call(name="loopback: write", path=_WRITE, expected=200, has_auth=False, writes=True),
    Call(
        name="loopback: write by a page from elsewhere",
        path=_WRITE,
        expected=403,
        has_auth=False,
        writes=True,
        headers=("Origin", ELSEWHERE),
    ),
    Call(
        name="loopback: the same, as browsers mark it",
        path=_WRITE,
        expected=403,
        has_auth=False,
        writes=True,
        headers=("Sec-Fetch-Site", "cross-site"),
    ),
    Call(
        name="loopback: under a foreign name (rebinding)",
        path="/api/version",
        expected=403,
        has_auth=False,
        headers=("Host", "elsewhere.example"),
    ),
)


def call(server: str, asked: Call) -> int:
    """What a server answers.

    Args:
        server: its API address.
        asked: the call.
    """
    right = f"{USER}:{PASSWORD}" if asked.has_auth else ""
    login = {"": "", "wrong": f"{USER}:guess", "right": right}[asked.login]
    root = server.removesuffix("/api")
    if asked.path.startswith("/api/events"):
        return asyncio.run(_socket(f"ws{root.removeprefix('http')}{asked.path}", login))
    headers = csrf_headers(server, right) if asked.csrf else {}
    return status_of(
        f"{root}{asked.path}",
        {} if asked.writes else None,
        login=login,
        headers=headers | dict([asked.headers] if asked.headers else []),
    )


async def _socket(address: str, login: str) -> int:
    """101 where the server lets in who opens the socket so, 403 where it does not."""
    import json

    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed, InvalidStatus

    try:
        async with connect(address, subprotocols=["prefect"]) as socket:  # type: ignore[list-item]  # a NewType of str
            await socket.send(json.dumps({"type": "auth", "token": login or None}))
            answer = json.loads(await socket.recv())
            return 101 if answer["type"] == "auth_success" else 403
    except (ConnectionClosed, InvalidStatus):
        return 403


def make_runs(folder: Path) -> Path:
    """Runs with one report, and beside them a report that nobody may see.

    Returns:
        Prefect's home for these runs.
    """
    for place in (folder / "runs" / "demo", folder / "secret"):
        place.mkdir(parents=True)
        (place / "report.html").write_text("<p>a report</p>")
    return folder / "runs" / ".prefect"


def answers() -> Iterator[tuple[Call, int]]:
    """Every call with its answer, from two servers started for it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        guarded = stack.enter_context(
            serving(make_runs(folder), "--host", "0.0.0.0", OSCAR_FLOW_AUTH=f"{USER}:{PASSWORD}")
        )
        open_ = stack.enter_context(serving(folder / "open"))
        for asked in CALLS:
            yield asked, call(guarded if asked.has_auth else open_, asked)


def main(arguments: Sequence[str]) -> int:
    """Print the table."""
    argparse.ArgumentParser(prog="python -m benchmarks server_auth").parse_args(arguments)
    wrong = 0
    print(f"{'call':48} {'answer':>7} {'expected':>9}")
    for asked, status in answers():
        is_right = status == asked.expected
        wrong += not is_right
        print(f"{asked.name:48} {status:7} {asked.expected:9}  {'' if is_right else 'WRONG'}")
    print(f"calls: {len(CALLS)} made, {len(CALLS) - wrong} answered as they must be")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
