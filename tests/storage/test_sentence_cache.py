"""Translations are kept by everything they follow from, and nothing is lost that counts."""

from pathlib import Path

import pytest

from storage.sentence_cache import Rendering, SentenceCache


def test_what_was_kept_is_found_by_the_same_model_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "sentences.sqlite"
    with SentenceCache(path, "one") as cache:
        cache.keep({"a": Rendering(text="甲"), "b": Rendering(text="", problem="empty")})
        cache.keep({"a": Rendering(text="乙")})
    with SentenceCache(path, "one") as cache:
        assert cache.find(["a", "b", "c", "a"]) == {
            "a": Rendering(text="乙"),
            "b": Rendering(text="", problem="empty"),
        }
    with SentenceCache(path, "two") as cache:
        assert cache.find(["a", "b"]) == {}


def test_many_sentences_are_asked_for_at_once(tmp_path: Path) -> None:
    many = {str(number): Rendering(text=str(-number)) for number in range(2_500)}
    with SentenceCache(tmp_path / "s", "") as cache:
        cache.keep(many)
        assert cache.find([*many, "\ud800"]) == many


def test_a_damaged_file_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "sentences.sqlite"
    path.write_bytes(b"no database" * 1000)
    with SentenceCache(path, "") as cache:
        cache.keep({"a": Rendering(text="甲")})
        assert cache.find(["a"])
    assert (tmp_path / "sentences.sqlite.damaged").is_file()
    assert "set aside" in caplog.text


def test_two_runs_write_into_one_file(tmp_path: Path) -> None:
    with SentenceCache(tmp_path / "s", "") as one, SentenceCache(tmp_path / "s", "") as two:
        one.keep({"a": Rendering(text="甲")})
        two.keep({"b": Rendering(text="乙")})
        assert set(one.find(["a", "b"])) == {"a", "b"}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    with pytest.raises(OSError, match="unable to open") as refused:
        SentenceCache(tmp_path / "s", "")
    assert refused.value.filename == str(tmp_path / "s")
