"""Who may talk to the server: passwords, and what a foreign web page must not send.

Basic auth and the tokens against forged requests are Prefect's own; this module decides when they
are on, keeps the password, and closes what they leave open (`OwnPagesOnly`).
"""

import ipaddress
import json
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flows.errors import ConfigError

USER = "oscar"
VARIABLE = "OSCAR_FLOW_AUTH"
"""USER:PASSWORD, for the server and for those who talk to it."""
HOSTS_VARIABLE = "OSCAR_FLOW_HOSTS"
"""Names, apart by commas, under which a loopback server is reached through a proxy."""
FILE = "auth"
"""Below the server's home: what was made where none was given."""
_GIVEN = ("PREFECT_SERVER_API_AUTH_STRING", VARIABLE)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Password:
    """What the server asks for, "user:password".

    place:   file that keeps it; None where it came from the environment
    is_new:  it was made just now
    """

    text: str
    place: Path | None
    is_new: bool = False

    def __repr__(self) -> str:
        """Without the password: a record may end up in a log."""
        return f"Password(place={self.place}, is_new={self.is_new})"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens there."""
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return False


def is_given(environment: Mapping[str, str]) -> bool:
    """Whether the environment names a password."""
    return any(environment.get(name) for name in _GIVEN)


def server_password(home: Path, environment: Mapping[str, str]) -> Password:
    """The given password, else the kept one, else a new one that is kept from now on.

    Args:
        home: the server's; the file in it is readable by its owner alone.
        environment: where `OSCAR_FLOW_AUTH` or Prefect's own variable may stand.

    Raises:
        ConfigError: What was given or kept is not of the form user:password.
    """
    for name in _GIVEN:
        if environment.get(name):
            return Password(text=_checked(environment[name], name), place=None)
    place = home / FILE
    with suppress(FileNotFoundError):
        return Password(text=_checked(place.read_text().strip(), str(place)), place=place)
    text = f"{USER}:{secrets.token_urlsafe(24)}"
    home.mkdir(parents=True, exist_ok=True)
    number = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(number, "w", encoding="utf-8") as stream:
        stream.write(f"{text}\n")
    return Password(text=text, place=place, is_new=True)


def _checked(text: str, source: str) -> str:
    user, separator, password = text.partition(":")
    if not (user and separator and password):
        raise ConfigError(f"{source}: give it the form user:password")
    return text


class OwnPagesOnly:
    """Turns away what a browser sends for a page that is not the server's own.

    Prefect answers requests of every origin, and on loopback without password a page from
    anywhere, open in a browser of this machine, could change or clear its database. Programs send
    neither `Origin` nor `Sec-Fetch-Site` and are not concerned.

    Args:
        app: Prefect's.
        hosts: names by which it may be called, against names that are made to point here
            (rebinding); None for any.
    """

    def __init__(self, app: App, *, hosts: frozenset[str] | None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as ASGI asks."""
        reason = self._refusal(scope) if scope["type"] in ("http", "websocket") else ""
        if not reason:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
        else:
            body = json.dumps({"detail": reason}).encode()
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    def _refusal(self, scope: Scope) -> str:
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        called = headers.get("host", "")
        if self._hosts is not None and _name_of(called) not in self._hosts:
            return f"not served under that name; name it in {HOSTS_VARIABLE}"
        if not scope["path"].startswith("/api"):
            return ""
        site = headers.get("sec-fetch-site")
        if site is not None:
            return "" if site in ("same-origin", "none") else "sent by a page from elsewhere"
        origin = headers.get("origin")
        own = {called, headers.get("x-forwarded-host", called)}
        if origin is not None and urlsplit(origin).netloc not in own:
            return "sent by a page from elsewhere"
        return ""


def served_names(host: str, environment: Mapping[str, str]) -> frozenset[str]:
    """Names by which a loopback server may be called."""
    more = (name.strip() for name in environment.get(HOSTS_VARIABLE, "").split(","))
    return frozenset({"localhost", "127.0.0.1", "::1", host.strip("[]"), *filter(None, more)})


def _name_of(called: str) -> str:
    """`name` of `name:port` and of `[name]:port`; "" for what is no address at all."""
    with suppress(ValueError):
        return urlsplit(f"//{called}").hostname or ""
    return ""
