import json
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.trained import TRAINED, read_trained, write_trained


def marked(folder: Path) -> tuple[Path, list[Path]]:
    """A mark and the two files it speaks of."""
    files = [folder / "model/weights", folder / "model/names"]
    (folder / "model").mkdir()
    for each in files:
        each.write_bytes(b"content of " + each.name.encode())
    write_trained(folder / TRAINED, "this", {"steps": 3}, files)
    return folder / TRAINED, files


def test_a_training_is_finished_while_its_files_are_what_it_wrote(tmp_path: Path) -> None:
    mark, files = marked(tmp_path)
    (tmp_path / "model/card").write_text("written later")
    assert read_trained(mark, "this", files) == {"steps": 3}
    assert read_trained(mark, "another", files) is None


@pytest.mark.parametrize(
    "damage",
    [Path.unlink, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"CONTENT")],
)
@pytest.mark.parametrize("number", [0, 1])
def test_a_damaged_result_is_not_finished(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], object],
    number: int,
) -> None:
    mark, files = marked(tmp_path)
    damage(files[number])
    assert read_trained(mark, "this", files) is None
    assert f"{files[number]}: no longer what was trained" in caplog.text


def test_a_mark_speaks_of_no_other_files(tmp_path: Path) -> None:
    mark, files = marked(tmp_path)
    (tmp_path / "other").write_bytes(files[0].read_bytes())
    assert read_trained(mark, "this", [*files, tmp_path / "other"]) is None


@pytest.mark.parametrize("missing", ["identity", "summary", "files"])
def test_a_mark_of_another_format_is_none(tmp_path: Path, missing: str) -> None:
    mark, files = marked(tmp_path)
    content = json.loads(mark.read_text())
    for other in ({missing: 3}, {missing: "3"}, {missing: None}):
        mark.write_text(json.dumps(content | other))
        assert read_trained(mark, "this", files) is None
    del content[missing]
    mark.write_text(json.dumps(content))
    assert read_trained(mark, "this", files) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"3"])
def test_a_damaged_mark_is_none(tmp_path: Path, content: bytes) -> None:
    mark, files = marked(tmp_path)
    mark.write_bytes(content)
    assert read_trained(mark, "this", files) is None
    mark.unlink()
    assert read_trained(mark, "this", files) is None


def test_without_its_files_no_mark_is_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_trained(tmp_path / TRAINED, "this", {}, [tmp_path / "model"])
    assert not list(tmp_path.iterdir())
