import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.artifacts import (
    DONE_NAME,
    atomic_path,
    atomic_write_bytes,
    atomic_write_json,
    damaged_files,
    files_below,
    fingerprint,
    read_done,
    remove_partials,
    share_file,
    write_done,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


def test_a_file_appears_whole_or_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    atomic_write_bytes(path, b"first")

    def failing() -> None:
        with atomic_path(path) as partial:
            partial.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    assert path.read_bytes() == b"first"
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_a_full_disk_names_the_file_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from storage.artifacts import atomic_write_bytes\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try: atomic_write_bytes(Path(sys.argv[1]), b'x' * 200)\n"
        "except OSError as error: print(error.filename)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert (found.stdout.strip(), found.stderr) == (str(path), "")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@given(value=st.dictionaries(st.text(max_size=3), JSON))
def test_equal_json_values_have_equal_fingerprints(value: dict[str, object]) -> None:
    turned = dict(reversed(value.items()))
    assert fingerprint("s", 1, value, {}, {}) == fingerprint("s", 1, turned, {}, {})


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "t"},
        {"version": 2},
        {"config": {"a": 2}},
        {"inputs": {"x": "2"}},
        {"outside": {"y": "2"}},
    ],
)
def test_every_part_of_a_fingerprint_counts(change: dict[str, object]) -> None:
    whole = {
        "stage": "s",
        "version": 1,
        "config": {"a": 1},
        "inputs": {"x": "1"},
        "outside": {"y": "1"},
    }
    assert fingerprint(**whole) != fingerprint(**{**whole, **change})  # type: ignore[arg-type]


def test_json_is_written_alike_and_never_with_nan(tmp_path: Path) -> None:
    atomic_write_json(tmp_path / "a", {"b": 1, "a": "狗"})
    atomic_write_json(tmp_path / "b", {"a": "狗", "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert "狗" in (tmp_path / "a").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="Out of range"):
        atomic_write_json(tmp_path / "c", float("nan"))


def test_a_folder_is_done_only_while_its_files_are_as_marked(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "file").write_bytes(b"content")
    (tmp_path / ".file.1-1.partial").write_bytes(b"half")
    assert read_done(tmp_path) is None
    written = write_done(tmp_path, "f" * 64, {"num_out": 1})
    assert read_done(tmp_path) == written
    assert list(written.files) == ["part/file"]
    assert damaged_files(tmp_path, written) == []
    (tmp_path / "part" / "file").write_bytes(b"CONTENT")
    assert damaged_files(tmp_path, written) == ["part/file"]
    (tmp_path / "part" / "file").write_bytes(b"short")
    assert read_done(tmp_path) is None
    (tmp_path / "part" / "file").unlink()
    assert read_done(tmp_path) is None
    assert damaged_files(tmp_path, written) == ["part/file"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"fingerprint": 1}'])
def test_a_broken_mark_is_no_mark(tmp_path: Path, content: str) -> None:
    (tmp_path / DONE_NAME).write_text(content)
    assert read_done(tmp_path) is None


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_stands_in_a_second_place_and_the_first_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    if not has_links:

        def refuse(source: Path, target: Path) -> None:
            raise OSError(errno.EXDEV, "another file system")

        monkeypatch.setattr(os, "link", refuse)
    one, other, target = tmp_path / "one", tmp_path / "other", tmp_path / "in" / "target"
    one.write_bytes(b"one")
    other.write_bytes(b"other")
    share_file(one, target)
    share_file(other, target)  # over what was there; nothing is written through a link
    assert (one.read_bytes(), target.read_bytes()) == (b"one", b"other")
    assert target.samefile(other) is has_links
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_leftovers_are_removed_below_too(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".x.1-1.partial").touch()
    (tmp_path / "a" / "x.partial").touch()
    assert remove_partials(tmp_path) == 1
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x.partial"]


def test_files_come_in_the_order_of_their_names_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b/deep/file", "b/.cache", ".hidden/file", "a", "c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path)]
    assert found == ["a", "c", "b/deep/file"]


def test_a_mark_is_plain_json_that_anyone_reads(tmp_path: Path) -> None:
    write_done(tmp_path, "abc", {"num_in": 2})
    mark = json.loads((tmp_path / DONE_NAME).read_text())
    assert mark == {"fingerprint": "abc", "summary": {"num_in": 2}, "files": {}}
    assert stat.S_ISREG(os.stat(tmp_path / DONE_NAME).st_mode)
