"""Files by https from a real server that cuts, lies, falls silent and sends elsewhere."""

import os
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from storage import downloads
from storage.errors import SourceError
from storage.sources import cached_path, local_path
from tests.prefect_server import free_port
from tests.web_server import Web, make_certificate, serving_web

CONTENT = bytes(range(256)) * 40
PATH = "/models/weights.bin"
DIGEST = sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def web(certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("OSCAR_FLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "FIRST_WAIT_SECONDS", 0.01)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with serving_web(Web(files={PATH: CONTENT}), certificate) as web:
        yield web


def place(tmp_path: Path, digest: str = DIGEST) -> Path:
    return tmp_path / "cache" / "files" / digest / "weights.bin"


def leave_partial(tmp_path: Path, content: bytes) -> None:
    path = place(tmp_path)
    path.parent.mkdir(parents=True)
    (path.parent / ".weights.bin.part").write_bytes(content)


def refusal(url: str) -> str:
    with pytest.raises(SourceError) as refused:
        local_path(url)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def visible_files(tmp_path: Path) -> list[str]:
    return [path.name for path in place(tmp_path).parent.iterdir() if path.suffix != ".lock"]


def test_a_file_is_fetched_once(web: Web, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    assert cached_path(web.url(PATH)) is None
    path = local_path(web.url(PATH), on_progress=lambda done, total: told.append((done, total)))
    assert path == place(tmp_path)
    assert path.read_bytes() == CONTENT
    assert told[0] == (0, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert local_path(f"{web.address}{PATH}", sha256=DIGEST) == path
    assert cached_path(web.url(PATH)) == path
    assert len(web.asked) == 1


def test_a_cut_connection_goes_on_where_it_ended(web: Web) -> None:
    web.cuts = [1000, 500]
    assert local_path(web.url(PATH)).read_bytes() == CONTENT
    assert [each for _, each in web.asked] == [None, "bytes=1000-", "bytes=1500-"]


def test_what_a_killed_process_left_is_not_fetched_again(web: Web, tmp_path: Path) -> None:
    leave_partial(tmp_path, CONTENT[:4000])
    assert local_path(web.url(PATH)).read_bytes() == CONTENT
    assert [each for _, each in web.asked] == ["bytes=4000-"]


def test_a_file_that_only_lacked_its_name_gets_it(web: Web, tmp_path: Path) -> None:
    leave_partial(tmp_path, CONTENT)
    assert local_path(web.url(PATH)).read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"something else", CONTENT + b"more"])
def test_leftovers_that_do_not_fit_are_thrown_away(web: Web, tmp_path: Path, left: bytes) -> None:
    leave_partial(tmp_path, left)
    assert local_path(web.url(PATH)).read_bytes() == CONTENT


def test_a_host_that_knows_no_ranges_sends_all_again(web: Web) -> None:
    web.cuts, web.knows_ranges = [1000], False
    assert local_path(web.url(PATH)).read_bytes() == CONTENT


def test_a_host_that_tells_no_length(web: Web) -> None:
    web.tells_length = False
    assert local_path(web.url(PATH)).read_bytes() == CONTENT


def test_other_bytes_than_wanted_are_refused_and_do_not_stay(web: Web, tmp_path: Path) -> None:
    wrong = "0" * 64
    said = refusal(f"{web.address}{PATH}#sha256={wrong}")
    assert f"its SHA-256 is {DIGEST}" in said
    assert f"put weights.bin to {place(tmp_path, wrong)} yourself" in said
    assert [each.name for each in place(tmp_path, wrong).parent.iterdir()] == [".weights.bin.lock"]


def test_a_host_that_does_not_answer_and_the_file_put_by_hand(web: Web, tmp_path: Path) -> None:
    url = f"https://127.0.0.1:{free_port()}{PATH}#sha256={DIGEST}"
    said = refusal(url)
    assert "no answer from 127.0.0.1:" in said
    assert f"put weights.bin to {place(tmp_path)} yourself (SHA-256 {DIGEST})" in said
    place(tmp_path).write_bytes(CONTENT)
    assert local_path(url) == place(tmp_path)
    place(tmp_path).write_bytes(b"another file")
    assert "wanted is" in refusal(url)


def test_a_missing_file_is_asked_for_once(web: Web) -> None:
    assert "the host answers 404" in refusal(f"{web.address}/gone.bin#sha256={DIGEST}")
    assert len(web.asked) == 1


def test_a_busy_host_is_asked_again(web: Web) -> None:
    web.statuses = [503, 429, 500]
    assert local_path(web.url(PATH)).read_bytes() == CONTENT
    web.statuses = [503] * 9
    assert "the host answers 503" in refusal(f"{web.address}/other.bin#sha256={'1' * 64}")
    assert len(web.statuses) == 9 - downloads.TRIES


def test_a_silent_host_is_no_host(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "SECONDS_OF_SILENCE", 0.05)
    monkeypatch.setattr(downloads, "TRIES", 2)
    web.seconds_silent = 5.0
    assert "no answer from 127.0.0.1:" in refusal(web.url(PATH))
    web.stopped.set()


def test_a_redirect_is_followed_with_the_part_that_is_missing(web: Web) -> None:
    web.files["/elsewhere"] = web.files.pop(PATH)
    web.redirects[PATH] = f"{web.address}/elsewhere"
    web.cuts = [300]
    assert local_path(f"{web.address}{PATH}#sha256={DIGEST}").read_bytes() == CONTENT
    assert web.asked[-1] == ("/elsewhere", "bytes=300-")


@pytest.mark.parametrize("to", ["http://127.0.0.1:1/x", "file:///etc/hostname"])
def test_no_redirect_leaves_https(web: Web, to: str) -> None:
    web.redirects["/sent"] = to
    said = refusal(f"{web.address}/sent#sha256={DIGEST}")
    assert "not https" in said or "is not allowed" in said
    assert len(web.asked) == 1


@pytest.mark.parametrize("tells_length", [True, False])
def test_more_than_is_allowed_is_refused(web: Web, tmp_path: Path, tells_length: bool) -> None:
    web.tells_length = tells_length
    with pytest.raises(SourceError, match=f"(than|longer than) {len(CONTENT) - 1}"):
        local_path(web.url(PATH), max_bytes=len(CONTENT) - 1)
    assert not place(tmp_path).exists()


def test_a_certificate_that_nobody_vouches_for(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "certificate verify failed" in refusal(web.url(PATH)).replace("_", " ").lower()
    assert web.asked == []


def test_two_at_once_fetch_once(web: Web, tmp_path: Path) -> None:
    web.seconds_silent = 0.1
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(local_path(web.url(PATH)))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [place(tmp_path)] * 3
    assert len(web.asked) == 1
    assert sorted(visible_files(tmp_path)) == ["weights.bin"]
