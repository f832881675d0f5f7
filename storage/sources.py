"""Files that lie elsewhere: `hf://owner/name[/file][@revision]`, `https://...#sha256=<hex>`.

<cache>/                       OSCAR_FLOW_CACHE, else `oscar-flow` below the user's XDG cache
files/<sha256>/<name>          what came by https, checked; also where a file may be put by hand
hf/<owner>/<name>[@revision]/  files of a hub repository that were put there by hand; they go before
                               the hub's own cache (HF_HOME), which huggingface_hub keeps
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from storage.artifacts import sha256_of
from storage.downloads import MAX_BYTES, Wanted, download
from storage.errors import MissingFileError, SourceError
from storage.hub import HubFiles, cached_from_hub, fetch_from_hub
from storage.urls import WITHOUT_SECRET, carries_secret, masked

CACHE_VARIABLE = "OSCAR_FLOW_CACHE"
HUB, WEB = "hf://", "https://"

_PART = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.+ -]*")
_REVISION = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_./-]*")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_HASH = "sha256="

OnProgress = Callable[[int, int | None], None]
"""Told bytes done and bytes in all, None where nobody knows."""


def _ignore(done: int, total: int | None) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class RemoteSource:
    """A file or folder that lies elsewhere, by the text that names it.

    Raises:
        SourceError: The text names none.
    """

    url: str

    def __post_init__(self) -> None:
        """Find mistakes where the text is written, not where the file is wanted."""
        parsed(self.url)

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True, kw_only=True)
class WebFile:
    """A file behind https. sha256: of its bytes, hexadecimal, small letters."""

    url: str
    name: str
    sha256: str


def is_remote(text: str) -> bool:
    """Whether a text names something that lies elsewhere, and not a local path."""
    return "://" in text


def cache_folder() -> Path:
    """Where fetched files are kept."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    shared = os.environ.get("XDG_CACHE_HOME")  # the standard takes absolute ones alone
    base = Path(shared) if shared and Path(shared).is_absolute() else Path.home() / ".cache"
    return base / "oscar-flow"


def local_path(
    source: "str | Path | RemoteSource",
    *,
    sha256: str | None = None,
    on_progress: OnProgress = _ignore,
    max_bytes: int = MAX_BYTES,
) -> Path:
    """The local file or folder of a source, fetched where it is not here yet.

    Args:
        source: a local path, which comes back as it is, its bytes checked where a text ends in
            `#sha256=<hex>`; `hf://owner/name` (all files of a repository), `hf://owner/name/file`,
            either with `@revision`, or `https://...`.
        sha256: what one file must have; needed for https unless the address ends in
            `#sha256=<hex>`.
        on_progress: told how far a download is.
        max_bytes: more is refused.

    Raises:
        SourceError: The text names no source, the host does not answer or has no such file, or
            the bytes are not those wanted; says which file to put where.
        MissingFileError: A local file whose SHA-256 is wanted is not there.
    """
    if isinstance(source, Path) or not is_remote(str(source)):
        path = Path(str(source))
        if isinstance(source, str) and not path.exists():  # a name may hold the sign itself
            name, mark, digest = source.partition(f"#{_HASH}")
            path, sha256 = Path(name), sha256 or (digest if mark else None)
        if sha256 is not None:
            _check_local(path, _digest(sha256, str(path)))
        return path
    wanted = parsed(str(source), sha256)
    here = _here(wanted)
    if here is not None:
        return here
    if isinstance(wanted, HubFiles):
        return fetch_from_hub(wanted, _place(wanted), max_bytes, on_progress)
    place = _place(wanted)
    download(
        Wanted(url=wanted.url, sha256=wanted.sha256, path=place, max_bytes=max_bytes), on_progress
    )
    return place


def cached_path(source: "str | Path | RemoteSource", *, sha256: str | None = None) -> Path | None:
    """The same without asking any host; None where a source would have to be fetched.

    Raises:
        SourceError: The text names no source, or what lies in the cache has other bytes.
    """
    if isinstance(source, Path) or not is_remote(str(source)):
        return Path(str(source))
    wanted = parsed(str(source), sha256)
    here = _here(wanted)
    if here is None and isinstance(wanted, HubFiles):
        return cached_from_hub(wanted, _place(wanted))
    return here


def parsed(text: str, sha256: str | None = None) -> HubFiles | WebFile:
    """What a text names.

    Args:
        text: as `local_path`.
        sha256: where it does not stand in the text.

    Raises:
        SourceError: It names nothing that can be fetched.
    """
    if carries_secret(text):
        raise SourceError(f"{masked(text)}: {WITHOUT_SECRET}")
    address, _, fragment = text.partition("#")
    if fragment and not fragment.startswith(_HASH):
        raise SourceError(f"{text}: after # only {_HASH}<64 hexadecimal digits> is understood")
    digest = fragment.removeprefix(_HASH) or sha256 or ""
    digest = _digest(digest, text) if digest else ""
    if sha256 is not None and digest != _digest(sha256, text):
        raise SourceError(f"{text}: another SHA-256 is wanted here: {sha256}")
    if address.startswith(HUB):
        return _hub_files(address, digest)
    if address.startswith(WEB):
        return _web_file(address, digest)
    raise SourceError(
        f"{text}: name a local path, {HUB}owner/name[/file][@revision], or "
        f"{WEB}...#{_HASH}<64 hexadecimal digits>"
    )


def _hub_files(address: str, digest: str) -> HubFiles:
    path, at, revision = address.removeprefix(HUB).partition("@")
    owner, _, rest = path.partition("/")
    name, _, file = rest.partition("/")
    parts = [owner, name, *(file.split("/") if file else ())]
    whole = all(_PART.fullmatch(each) and each.strip(".") for each in parts)
    if not whole or (at and not (_REVISION.fullmatch(revision) and ".." not in revision)):
        raise SourceError(f"{address}: write {HUB}owner/name[/file][@revision]")
    if digest and not file:
        raise SourceError(f"{address}: a SHA-256 belongs to one file; name it: {HUB}{path}/FILE")
    return HubFiles(
        source=address, repository=f"{owner}/{name}", file=file, revision=revision, sha256=digest
    )


def _web_file(address: str, digest: str) -> WebFile:
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise SourceError(f"{address}: no address: {error}") from None
    if not host or not address.isascii() or any(sign <= " " for sign in address):
        raise SourceError(f"{address}: no address; percent-encode what is not plain in it")
    if not digest:
        raise SourceError(
            f"{address}: say which bytes are meant: {address}#{_HASH}<64 hexadecimal digits>"
        )
    name = unquote(parts.path.rpartition("/")[2])
    is_plain = _PART.fullmatch(name) is not None and not name.startswith(".")
    return WebFile(url=address, name=name if is_plain else "file", sha256=digest)


def _digest(text: str, where: str) -> str:
    if not _DIGEST.fullmatch(text):
        raise SourceError(f"{where}: a SHA-256 has 64 hexadecimal digits, not {text!r}")
    return text.lower()


def _place(wanted: HubFiles | WebFile) -> Path:
    """Where a file may be put by hand, and where https ones are kept."""
    if isinstance(wanted, WebFile):
        return cache_folder() / "files" / wanted.sha256 / wanted.name
    revision = f"@{wanted.revision.replace('/', '_')}" if wanted.revision else ""
    folder = cache_folder() / "hf" / f"{wanted.repository}{revision}"
    return folder / wanted.file if wanted.file else folder


def _here(wanted: HubFiles | WebFile) -> Path | None:
    """What lies at that place, its bytes checked."""
    place = _place(wanted)
    if isinstance(wanted, HubFiles) and not wanted.file:
        return place if place.is_dir() and any(place.iterdir()) else None
    if not place.is_file():
        return None
    if wanted.sha256:
        _check_local(place, wanted.sha256)
    return place


def _check_local(path: Path, digest: str) -> None:
    try:
        found = sha256_of(path)
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file") from None
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}; check the path") from error
    if found != digest:
        raise SourceError(
            f"{path}: its SHA-256 is {found}, wanted is {digest}; remove it, or put the right file "
            "there"
        )
