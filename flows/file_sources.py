"""Weights, vocabularies and dictionaries in a configuration: a local path, or where they lie.

`FileSource` is the type of such a field. A run works on local files alone: `with_local_files`
fetches the others before the first step, and the steps' processes never ask a network.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import IO, Annotated, Any, TypeVar

from pydantic import BeforeValidator

from storage.errors import MissingFileError, SourceError
from storage.sources import RemoteSource, cached_path, is_remote, local_path

T = TypeVar("T")
Find = Callable[[RemoteSource], Path]
_EVERY_SECONDS = 5.0
_MEGABYTE = 1e6


def _source(value: object) -> object:
    """A path or a remote source out of what a YAML file holds."""
    if isinstance(value, Path | RemoteSource):
        return value
    if not isinstance(value, str):
        raise ValueError(f"must be a path, hf://... or https://..., not {value!r}")
    try:
        return RemoteSource(value) if is_remote(value) else Path(value)
    except SourceError as error:
        raise ValueError(str(error)) from error


FileSource = Annotated[Path | RemoteSource, BeforeValidator(_source)]
"""A local path, `hf://owner/name[/file][@revision]` or `https://...#sha256=<hex>`."""


def with_local_files(
    config: T, find: Callable[[RemoteSource], Path | RemoteSource] = local_path
) -> T:
    """The same configuration with a local path in place of every remote source.

    Args:
        config: a dataclass.
        find: gives the local path of a source, or the source itself to leave it.

    Raises:
        SourceError: A source cannot be had.
    """
    found: T = _found(config, find)
    return found


def already_here(source: RemoteSource) -> Path:
    """The local path of a source that was fetched before; asks nobody.

    Raises:
        SourceError: It was not.
    """
    path = cached_path(source)
    if path is None:
        raise SourceError(f"{source}: not fetched yet; do it by: oscar-flow fetch '{source}'")
    return path


def told_to(stream: IO[str]) -> Find:
    """A way to find sources that tells on a stream what it fetches."""

    def find(source: RemoteSource) -> Path:
        told_at = float("-inf")

        def tell(done: int, total: int | None) -> None:
            nonlocal told_at
            now = time.monotonic()
            if now - told_at >= _EVERY_SECONDS or done == total:
                told_at = now
                whole = "" if total is None else f" of {total / _MEGABYTE:.1f}"
                stream.write(f"fetching {source}: {done / _MEGABYTE:.1f}{whole} MB\n")
                stream.flush()

        return local_path(source, on_progress=tell)

    return find


def of_option(source: str | None, stream: IO[str]) -> Path | None:
    """The local path of what an option of the command line names.

    Args:
        source: as in a configuration; None where the option was not given.
        stream: where a download is told.

    Raises:
        SourceError: It names nothing, or cannot be had.
    """
    if source is None or not is_remote(source):
        return None if source is None else Path(source)
    return told_to(stream)(RemoteSource(source))


def fetched(source: str, stream: IO[str]) -> Path:
    """The local path of what `oscar-flow fetch` names.

    Args:
        source: as in a configuration; a local one must be there.
        stream: where a download is told.

    Raises:
        SourceError: It names nothing, cannot be had, or has other bytes.
        MissingFileError: It is local and not there.
    """
    if is_remote(source):
        return told_to(stream)(RemoteSource(source))
    path = local_path(source)
    if not path.exists():
        raise MissingFileError(
            f"{source}: no such file or folder; what lies elsewhere begins with hf:// or https://"
        )
    return path


def _found(value: Any, find: Callable[[RemoteSource], Path | RemoteSource]) -> Any:
    if isinstance(value, RemoteSource):
        return find(value)
    if is_dataclass(value) and not isinstance(value, type):
        before = {each.name: getattr(value, each.name) for each in fields(value) if each.init}
        after = {name: _found(each, find) for name, each in before.items()}
        changed = {name: each for name, each in after.items() if each is not before[name]}
        return replace(value, **changed) if changed else value
    if isinstance(value, Mapping):
        members = {name: _found(each, find) for name, each in value.items()}
        is_same = all(members[name] is each for name, each in value.items())
        return value if is_same else members
    if isinstance(value, tuple):
        parts = tuple(_found(each, find) for each in value)
        return value if all(map(lambda one, other: one is other, parts, value)) else parts
    return value
