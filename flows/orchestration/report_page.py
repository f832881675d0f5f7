"""The report of a run beside Prefect's pages: `/reports/<run>` on a server of `oscar-flow server`.

A page of Prefect cannot open a file of this machine, so its link would be dead.
"""

import base64
import hmac
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from flows.orchestration.auth import App, Password, Receive, Scope, Send
from flows.orchestration.running import home_of, running_server
from flows.run_folder import RunFolder

PREFIX = "/reports/"
REPORT = "report.html"
_HEADERS = (
    (b"content-type", b"text/html; charset=utf-8"),
    # of an origin of its own: nothing on it can speak for who is logged in to Prefect's pages
    (b"content-security-policy", b"sandbox allow-scripts allow-popups"),
    (b"cache-control", b"no-store"),
)


def report_link(run: RunFolder) -> str:
    """Address of a run's report: on the server where it shows it, else of the file."""
    api = running_server(home_of(run.path))
    if api is not None and api == os.environ.get("PREFECT_API_URL"):
        return f"{PREFIX}{run.path.resolve().name}"
    return (run.path.resolve() / REPORT).as_uri()


class ReportPages:
    """Answers `/reports/<run>` itself, leaves the rest to the app below.

    Args:
        app: Prefect's.
        runs: folder of run folders; nothing else below it or above it is shown.
        password: as the API asks for; None without.
    """

    def __init__(self, app: App, *, runs: Path, password: Password | None) -> None:
        self._app = app
        self._runs = runs.resolve()
        self._password = password

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as ASGI asks."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
        elif not self._is_known(dict(scope["headers"]).get(b"authorization", b"")):
            asks = (b"www-authenticate", b'Basic realm="oscar-flow"')
            await _answer(send, 401, (asks,), b"log in as to Prefect's pages")
        else:
            page = self._page(scope["path"].removeprefix(PREFIX).rstrip("/"))
            if page is None or scope["method"] not in ("GET", "HEAD"):
                await _answer(send, 404, (), b"no report of a run of that name")
            else:
                await _answer(send, 200, _HEADERS, page)

    def _is_known(self, header: bytes) -> bool:
        if self._password is None:
            return True
        expected = b"Basic " + base64.b64encode(self._password.text.encode())
        return hmac.compare_digest(header, expected)

    def _page(self, name: str) -> bytes | None:
        """The report, if that is the name of a run folder and nothing trickier."""
        if not name or "/" in name or "\\" in name or name.startswith("."):
            return None
        with suppress(OSError, ValueError):
            place = (self._runs / name / REPORT).resolve()
            if place.parent.parent == self._runs:
                return place.read_bytes()
        return None


async def _answer(
    send: Send, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes
) -> None:
    sent = [*headers, (b"x-content-type-options", b"nosniff")]
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": body})
