"""A real HTTPS server on loopback that can be told to misbehave, and a hub of two repositories."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(slots=True)
class Web:
    """What a server has, and how it behaves.

    files:          path -> content
    redirects:      path -> address
    statuses:       answers given first, instead of the file
    cuts:           after how many bytes of the body a connection ends, one a request
    knows_ranges:   whether it answers with a part when asked for one
    tells_length:   whether it says how long a file is
    seconds_silent: waits before it answers
    asked:          path and Range of every request
    """

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    knows_ranges: bool = True
    tells_length: bool = True
    seconds_silent: float = 0.0
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    address: str = ""
    stopped: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str) -> str:
        """Address of a file, with its SHA-256."""
        return f"{self.address}{path}#sha256={sha256(self.files[path]).hexdigest()}"


def make_certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 with its key, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "loopback")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "loopback.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


@contextmanager
def serving_web(web: Web, certificate: Path | None) -> Iterator[Web]:
    """Answer on a free port; https where there is a certificate."""

    class Handler(_FileHandler):
        pass

    Handler.web = web
    with _running(Handler, certificate) as address:
        web.address = address
        try:
            yield web
        finally:
            web.stopped.set()


@contextmanager
def _running(handler: type[BaseHTTPRequestHandler], certificate: Path | None) -> Iterator[str]:
    server = _Server(("127.0.0.1", 0), handler)
    server.daemon_threads = False  # all are waited for: no connection stays open
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        scheme = "http" if certificate is None else "https"
        yield f"{scheme}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that leave."""


class _FileHandler(BaseHTTPRequestHandler):
    web: Web

    def do_GET(self) -> None:
        """Answer as the `Web` says."""
        web, wanted = self.web, self.headers.get("Range")
        web.asked.append((self.path, wanted))
        web.stopped.wait(web.seconds_silent)
        if web.statuses:
            self._end(web.statuses.pop(0))
        elif self.path in web.redirects:
            self._end(302, Location=web.redirects[self.path])
        elif self.path not in web.files:
            self._end(404)
        else:
            self._send(web.files[self.path], wanted)

    def _send(self, content: bytes, wanted: str | None) -> None:
        first, status, headers = 0, 200, {}
        if wanted and self.web.knows_ranges:
            first = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if first >= len(content):
                self._end(416, **{"Content-Range": f"bytes */{len(content)}"})
                return
            status = 206
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        body = content[first:]
        if self.web.tells_length:
            headers["Content-Length"] = str(len(body))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: self.web.cuts.pop(0)] if self.web.cuts else body)

    def _end(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serving_hub(files: dict[str, bytes], repository: str = "owner/name") -> Iterator[str]:
    """A hub with one repository of one commit, as far as `huggingface_hub` asks it."""

    class Handler(_HubHandler):
        pass

    Handler.files, Handler.repository = files, repository
    with _running(Handler, None) as address:
        yield address


class _HubHandler(BaseHTTPRequestHandler):
    files: dict[str, bytes]
    repository: str

    def do_GET(self) -> None:
        """Answer metadata and files."""
        path = urlsplit(self.path).path
        parts = path.removeprefix("/api/models").strip("/").split("/")
        if "/".join(parts[:2]) != self.repository:
            self._error("RepoNotFound")
        elif path.startswith("/api/models"):
            self._metadata(parts[2:])
        elif parts[2] == "resolve" and parts[3] not in ("main", COMMIT):
            self._error("RevisionNotFound")
        else:
            self._file("/".join(parts[4:]))

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def _metadata(self, rest: list[str]) -> None:
        if rest and rest[-1] not in ("main", COMMIT):
            self._error("RevisionNotFound")
        elif rest and rest[0] == "tree":
            self._json(
                [
                    {"type": "file", "path": name, "size": len(each), "oid": _oid(each)}
                    for name, each in self.files.items()
                ]
            )
        else:
            names = [{"rfilename": name} for name in self.files]
            self._json({"id": self.repository, "sha": COMMIT, "siblings": names})

    def _file(self, name: str) -> None:
        if name not in self.files:
            self._error("EntryNotFound")
            return
        content = self.files[name]
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{_oid(content)}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _json(self, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _error(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _oid(content: bytes) -> str:
    return sha256(content).hexdigest()[:40]
