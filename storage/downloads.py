"""One file by https: goes on where it was cut, and counts only with the SHA-256 it must have.

Beside the file, hidden: `.<name>.part`, what came so far, and `.<name>.lock`, held while somebody
fetches it.
"""

import fcntl
import logging
import os
import re
import shutil
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from storage.artifacts import sha256_of
from storage.errors import SourceError

MAX_BYTES = 64 << 30
"""Nothing that is asked for anywhere is larger [bytes]."""
SECONDS_OF_SILENCE = 30.0
"""A host that sends nothing for so long does not answer."""
TRIES = 4
"""In a row without a byte more."""
FIRST_WAIT_SECONDS = 0.5
"""Before the second try; doubles each time."""

_MOST_TRIES = 200
_CHUNK_BYTES = 1 << 20
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A file to be fetched.

    sha256: hexadecimal, small letters
    path:   where it goes; its folder is made
    """

    url: str
    sha256: str
    path: Path
    max_bytes: int = MAX_BYTES

    @property
    def partial(self) -> Path:
        """What came so far."""
        return self.path.with_name(f".{self.path.name}.part")

    @property
    def lock(self) -> Path:
        """Held by whoever fetches it."""
        return self.path.with_name(f".{self.path.name}.lock")

    def refused(self, why: str) -> SourceError:
        """The error that says what to do instead."""
        return SourceError(
            f"{self.url}: {why}; put {self.path.name} to {self.path} yourself (SHA-256 "
            f"{self.sha256}), or name a local path"
        )


class _CutError(Exception):
    """The connection ended, or the host does not answer now; another try may help."""


class _StaysEncrypted(HTTPRedirectHandler):
    """Follows a host that sends elsewhere, but to https alone."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        """The next request.

        Raises:
            URLError: It would go unencrypted.
        """
        if urlsplit(newurl).scheme != "https":
            fp.close()
            raise URLError(f"it sends to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(wanted: Wanted, on_progress: Callable[[int, int | None], None]) -> None:
    """Fetch a file; another process that fetches it already is waited for.

    Args:
        wanted: the file.
        on_progress: told bytes done and in all, None where the host does not say.

    Raises:
        SourceError: No answer, no such file, too large, or other bytes than wanted.
        OSError: The cache cannot be written.
    """
    wanted.path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(wanted.lock):
        if wanted.path.is_file():
            return
        was_begun = wanted.partial.is_file()
        _fetch(wanted, on_progress)
        if was_begun and sha256_of(wanted.partial) != wanted.sha256:
            _LOG.warning(
                "%s: what an earlier download left does not fit; from the start", wanted.url
            )
            wanted.partial.unlink()
            _fetch(wanted, on_progress)
        found = sha256_of(wanted.partial)
        if found != wanted.sha256:
            wanted.partial.unlink()
            raise wanted.refused(f"its SHA-256 is {found}: not the file that is wanted")
        with open(wanted.partial, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(wanted.partial, wanted.path)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold a lock; whoever dies gives it up."""
    with open(lock, "w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _LOG.info("%s: another process fetches it; waiting", lock.parent)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _fetch(wanted: Wanted, on_progress: Callable[[int, int | None], None]) -> None:
    """Bring the partial file to its end, over as many connections as it takes."""
    opener = build_opener(_StaysEncrypted)
    failures = 0
    for _ in range(_MOST_TRIES):
        before = _size(wanted.partial)
        try:
            return _go_on(wanted, opener, on_progress)
        except _CutError as cut:
            failures = 0 if _size(wanted.partial) > before else failures + 1
            if failures >= TRIES:
                raise wanted.refused(str(cut)) from cut
            _LOG.info("%s: %s; going on at byte %d", wanted.url, cut, _size(wanted.partial))
            time.sleep(FIRST_WAIT_SECONDS * 2.0 ** max(0, failures - 1))
    raise wanted.refused(f"{_MOST_TRIES} connections were cut")


def _go_on(
    wanted: Wanted, opener: OpenerDirector, on_progress: Callable[[int, int | None], None]
) -> None:
    """One connection, from the first byte that is missing."""
    done = _size(wanted.partial)
    headers = {"User-Agent": "oscar-flow", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    try:
        with opener.open(
            Request(wanted.url, headers=headers), timeout=SECONDS_OF_SILENCE
        ) as answer:
            if answer.status == 206 and _first_byte(answer.headers) != done:
                wanted.partial.unlink(missing_ok=True)
                raise _CutError("the host answers with another part than asked for")
            first = done if answer.status == 206 else 0
            _write(wanted, answer, first, on_progress)
    except HTTPError as error:
        _judge(wanted, error, done)
    except URLError as error:
        raise _no_answer(wanted, error.reason) from error
    except (HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
        raise _no_answer(wanted, error) from error


def _write(
    wanted: Wanted, answer: Any, first: int, on_progress: Callable[[int, int | None], None]
) -> None:
    length = answer.headers.get("Content-Length")
    total = first + int(length) if length and length.isdigit() else None
    if total is not None:
        _check_room(wanted, first, total)
    done = first
    with open(wanted.partial, "ab" if first else "wb") as stream:
        on_progress(done, total)
        while chunk := answer.read(_CHUNK_BYTES):
            done += len(chunk)
            if done > wanted.max_bytes:
                raise wanted.refused(f"longer than {wanted.max_bytes} bytes")
            stream.write(chunk)
            on_progress(done, total)
    if total is not None and done < total:
        raise _CutError(f"cut after {done} of {total} bytes")


def _check_room(wanted: Wanted, first: int, total: int) -> None:
    if total > wanted.max_bytes:
        raise wanted.refused(f"{total} bytes, more than {wanted.max_bytes}")
    free = shutil.disk_usage(wanted.path.parent).free
    if total - first > free:
        raise SourceError(
            f"{wanted.url}: {total - first} bytes to come and {free} free in {wanted.path.parent}; "
            "make room, or set OSCAR_FLOW_CACHE to a folder with room"
        )


def _judge(wanted: Wanted, error: HTTPError, done: int) -> None:
    """What an answer other than the file means; returns where the file is whole already."""
    error.close()
    if error.code == 416 and done:
        if _whole_size(error.headers) == done:
            return
        wanted.partial.unlink(missing_ok=True)
        raise _CutError("the file there is shorter than what came of it") from error
    if error.code in _PASSING:
        raise _CutError(f"the host answers {error.code} {error.reason}") from error
    raise wanted.refused(f"the host answers {error.code} {error.reason}") from error


def _no_answer(wanted: Wanted, reason: object) -> Exception:
    said = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    text = f"no answer from {urlsplit(wanted.url).netloc} ({' '.join(str(said).split())})"
    is_final = isinstance(reason, str | ssl.SSLCertVerificationError)
    return wanted.refused(text) if is_final else _CutError(text)


def _first_byte(headers: Message) -> int | None:
    found = _RANGE.fullmatch(headers.get("Content-Range", ""))
    return int(found[1]) if found and found[1] else None


def _whole_size(headers: Message) -> int | None:
    found = _RANGE.fullmatch(headers.get("Content-Range", ""))
    return int(found[2]) if found and found[2].isdigit() else None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
