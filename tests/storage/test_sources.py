"""What names a file that lies elsewhere, what does not, and where the cache is."""

from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import MissingFileError, SourceError
from storage.hub import HubFiles
from storage.sources import RemoteSource, WebFile, cache_folder, cached_path, local_path, parsed

DIGEST = "0a" * 32


def hub(text: str) -> tuple[str, str, str]:
    found = parsed(text)
    assert isinstance(found, HubFiles)
    return found.repository, found.file, found.revision


def test_a_hub_source_names_repository_file_and_revision() -> None:
    assert hub("hf://owner/name") == ("owner/name", "", "")
    assert hub("hf://owner/name@v1.0") == ("owner/name", "", "v1.0")
    assert hub("hf://owner/name/a/vocab.txt") == ("owner/name", "a/vocab.txt", "")
    assert hub("hf://owner/na-me_2.0/vocab.txt@refs/pr/1") == (
        "owner/na-me_2.0",
        "vocab.txt",
        "refs/pr/1",
    )


def test_a_file_of_the_hub_may_have_to_have_certain_bytes() -> None:
    found = parsed(f"hf://owner/name/vocab.txt@main#sha256={DIGEST}")
    assert isinstance(found, HubFiles)
    assert (found.sha256, found.revision) == (DIGEST, "main")


def test_an_https_source_names_its_bytes() -> None:
    found = parsed(f"https://host/a/word%20list.json?x=1#sha256={DIGEST.upper()}")
    assert found == WebFile(
        url="https://host/a/word%20list.json?x=1", name="word list.json", sha256=DIGEST
    )
    assert parsed("https://host/a/..", DIGEST) == WebFile(
        url="https://host/a/..", name="file", sha256=DIGEST
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hf://owner", "write hf://owner/name"),
        ("hf:///name", "write hf://owner/name"),
        ("hf://owner/name/../../x", "write hf://owner/name"),
        ("hf://owner/name//x", "write hf://owner/name"),
        ("hf://owner/name@", "write hf://owner/name"),
        ("hf://owner/name@../x", "write hf://owner/name"),
        (f"hf://owner/name#sha256={DIGEST}", "a SHA-256 belongs to one file"),
        ("https://host/file", "say which bytes are meant: https://host/file#sha256="),
        ("https://host/file#sha256=12", "has 64 hexadecimal digits, not '12'"),
        ("https://host/file#top", "only sha256="),
        (f"https:///file#sha256={DIGEST}", "no address"),
        (f"https://host:x/file#sha256={DIGEST}", "no address"),
        (f"https://ho st/file#sha256={DIGEST}", "no address"),
        (f"http://host/file#sha256={DIGEST}", "name a local path, hf://"),
        ("s3://bucket/file", "name a local path, hf://"),
        (f"https://me:secret@host/file#sha256={DIGEST}", "without password"),
    ],
)
def test_what_names_nothing_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(SourceError) as refused:
        RemoteSource(text)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


@given(st.text(max_size=60))
def test_no_text_after_the_hub_leaves_the_cache(text: str) -> None:
    try:
        found = parsed(f"hf://{text}")
    except SourceError:
        return
    assert isinstance(found, HubFiles)
    parts = [*found.repository.split("/"), *found.file.split("/")[:-1], *found.revision.split("/")]
    assert ".." not in parts
    assert found.repository.count("/") == 1


def test_two_digests_that_disagree_are_refused() -> None:
    with pytest.raises(SourceError, match="another SHA-256 is wanted here"):
        parsed(f"https://host/file#sha256={DIGEST}", "1" * 64)


def test_a_local_path_comes_back_as_it_is(tmp_path: Path) -> None:
    assert local_path("some/where") == Path("some/where")
    assert local_path(tmp_path) == tmp_path
    assert cached_path("some/where") == Path("some/where")


def test_a_local_file_may_have_to_have_certain_bytes(tmp_path: Path) -> None:
    path = tmp_path / "words"
    with pytest.raises(MissingFileError, match="words: no such file"):
        local_path(path, sha256=DIGEST)
    path.write_bytes(b"a")
    assert local_path(str(path), sha256=sha256(b"a").hexdigest()) == path
    with pytest.raises(SourceError, match=f"wanted is {DIGEST}"):
        local_path(path, sha256=DIGEST)


def test_the_cache_lies_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("OSCAR_FLOW_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert cache_folder() == Path("/home/somebody/.cache/oscar-flow")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/oscar-flow")
    monkeypatch.setenv("OSCAR_FLOW_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path


def test_a_local_path_may_say_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "words"
    path.write_bytes(b"a")
    assert local_path(f"{path}#sha256={sha256(b'a').hexdigest()}") == path
    with pytest.raises(SourceError, match="wanted is"):
        local_path(f"{path}#sha256={DIGEST}")
    with pytest.raises(SourceError, match="64 hexadecimal digits"):
        local_path(f"{path}#sha256=00")
    with pytest.raises(MissingFileError, match="no such file"):
        local_path(f"{path}2#sha256={DIGEST}")
