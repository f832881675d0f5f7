"""Stores behind URLs: an answer is told of its photo, no answer ends the work."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from storage import photo_files
from storage.errors import SourceError, UnreadableImageError
from storage.images import read_photo
from storage.photo_files import read_source
from storage.photo_sources.collection import Collection, photos_in
from storage.records import ImageSource
from tests.builders_photos import lay_parquet, lay_tar, pictures


class RefusedError(Exception):
    """As aiohttp's ClientResponseError."""

    status = 403


def put(path: str, content: bytes) -> str:
    fsspec.filesystem("memory").pipe(path, content)
    return f"memory:/{path}"


def failing(times: int) -> Callable[..., Any]:
    """A file whose reads fail so often, and then no more."""
    left = [times]

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if left[0]:
                left[0] -= 1
                super().read(1)
                raise ConnectionResetError("connection reset")
            return super().read(size)

    def opened(store: MemoryFileSystem, path: str, *args: object, **options: object) -> Failing:
        return Failing(store.cat_file(path))

    return opened


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo_files, "_WAIT_SECONDS", 0.0)


@pytest.mark.parametrize("is_told", [True, False])
def test_a_large_photo_of_a_store_is_set_aside_and_does_not_end_the_work(
    is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = put("/large/a.png", b"x" * 3000)
    if not is_told:
        monkeypatch.setattr(MemoryFileSystem, "info", lambda *args, **options: {"size": None})
    with pytest.raises(UnreadableImageError, match="more than 2000 bytes") as caught:
        read_source(ImageSource(image_id="a", path=url), 2000)
    assert caught.value.reason == "too-many-bytes"


def test_a_photo_that_a_store_refuses_is_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    url = put("/refused/a.png", b"x")

    def refuse(*args: object, **options: object) -> bytes:
        raise RefusedError("Forbidden")

    monkeypatch.setattr(MemoryFileSystem, "cat_file", refuse)
    with pytest.raises(UnreadableImageError, match="refused: Forbidden"):
        read_photo(ImageSource(image_id="a", path=url))


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_a_connection_that_breaks_is_no_damage_of_the_file(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay = lay_parquet if kind == "parquet" else lay_tar
    url = put(f"/broken/x.{kind}", lay(tmp_path / "x", pictures(3)).read_bytes())
    sources = [each for each in photos_in(Collection(place=url)) if isinstance(each, ImageSource)]
    monkeypatch.setattr(MemoryFileSystem, "_open", failing(2))
    assert len(list(photos_in(Collection(place=url)))) == 3
    monkeypatch.setattr(MemoryFileSystem, "_open", failing(99))
    with pytest.raises(SourceError, match="connection reset; run the same command again"):
        list(photos_in(Collection(place=url)))
    if kind == "parquet":
        with pytest.raises(SourceError, match="connection reset"):
            read_photo(sources[1])
        monkeypatch.setattr(MemoryFileSystem, "_open", failing(1))
        assert read_photo(sources[1]) == pictures(3)["b/p1"]
