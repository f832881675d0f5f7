"""METEOR's process: one for everything, never a hang, no orphan; its arithmetic."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscar_core.metrics.compat import MetricCompat
from oscar_core.metrics.errors import JavaProcessError
from oscar_core.metrics.meteor import Meteor, corpus_score, request_line, segment_score

SOON = 5.0
ANSWER = " ".join(["5.0", "6.0", "2.0", "3.0", "2.0", "2.0", "2.0", "2.0", "1.0", "1.0"])
ANSWER += " 0.0" * 10 + " 2.0 5.0 5.0"


def fake_java(folder: Path, body: str) -> Path:
    program = folder / "java"
    program.write_text(f"#!{sys.executable}\nimport sys, time, os\nanswer = {ANSWER!r}\n{body}")
    program.chmod(0o755)
    return program


ECHO = "for line in sys.stdin:\n    print(answer, flush=True)\n"


def is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_formula_on_a_recorded_segment() -> None:
    row = np.array([float(field) for field in ANSWER.split()])
    assert segment_score(row) == pytest.approx(0.41388921016683433, abs=1e-15)
    assert corpus_score(np.stack([row, row])) == pytest.approx(segment_score(row), abs=1e-15)


@given(st.integers(1, 30), st.integers(0, 30))
def test_a_perfect_match_scores_one_and_is_not_penalised(words: int, function: int) -> None:
    function = min(words, function)
    content = words - function
    row = np.zeros(23)
    row[[0, 1, 2, 3]] = words, words, function, function
    row[[4, 5, 6, 7]] = content, content, function, function
    row[[20, 21, 22]] = 1, words, words
    assert segment_score(row) == pytest.approx(1.0)
    assert segment_score(np.zeros(23)) == 0.0


def test_a_request_is_one_line_and_pipes_only_separate() -> None:
    line = request_line(["a ||| b", "c\nd"], "e ||| f\u2028g")
    assert line == "SCORE ||| a  b ||| c d ||| e  f g"
    original = request_line(["a ||| b"], "c", compat=MetricCompat(pipes_split_references=True))
    assert original == "SCORE ||| a ||| b ||| c"


def test_one_process_answers_for_all(tmp_path: Path) -> None:
    with Meteor(java=fake_java(tmp_path, ECHO)) as meteor:
        assert meteor.process_id is None
        rows = [meteor.statistics(["a b"], "a") for _ in range(3)]
        process_id = meteor.process_id
        assert process_id is not None
        assert [row.tolist() for row in rows] == [[float(f) for f in ANSWER.split()]] * 3
    assert not is_alive(process_id)


def test_a_process_that_never_answers_is_killed(tmp_path: Path) -> None:
    meteor = Meteor(
        java=fake_java(tmp_path, "time.sleep(600)"), first_answer_seconds=0.5, answer_seconds=0.5
    )
    meteor.start()
    process_id = meteor.process_id
    started = time.monotonic()
    with pytest.raises(JavaProcessError, match=r"no answer within 0\.5 seconds"):
        meteor.statistics(["a"], "a")
    assert time.monotonic() - started < SOON
    assert meteor.process_id is None
    assert process_id is not None
    assert not is_alive(process_id)


def test_a_process_that_reads_nothing_does_not_hold_a_long_request(tmp_path: Path) -> None:
    meteor = Meteor(
        java=fake_java(tmp_path, "time.sleep(600)"), first_answer_seconds=0.5, answer_seconds=0.5
    )
    started = time.monotonic()
    with pytest.raises(JavaProcessError, match="no answer"):
        meteor.statistics(["word " * 200_000], "a")
    assert time.monotonic() - started < SOON


def test_a_process_that_dies_at_once_shows_what_it_said(tmp_path: Path) -> None:
    body = "print('OutOfMemoryError: heap', file=sys.stderr)\nsys.exit(1)"
    meteor = Meteor(java=fake_java(tmp_path, body))
    with pytest.raises(JavaProcessError, match=r"status 1\): OutOfMemoryError: heap"):
        meteor.statistics(["a"], "a")


def test_a_flood_on_stderr_does_not_block(tmp_path: Path) -> None:
    body = "sys.stderr.write('noise\\n' * 100_000)\n" + ECHO
    with Meteor(java=fake_java(tmp_path, body), first_answer_seconds=30) as meteor:
        assert meteor.statistics(["a"], "a").shape == (23,)


@pytest.mark.parametrize("said", ["Error: specify hypothesis", "1.0 2.0", "nan-sense"])
def test_another_answer_than_numbers_is_refused(tmp_path: Path, said: str) -> None:
    body = f"sys.stdin.readline()\nprint({said!r}, flush=True)\ntime.sleep(600)"
    meteor = Meteor(java=fake_java(tmp_path, body))
    with pytest.raises(JavaProcessError, match="instead of 23 numbers"):
        meteor.statistics(["a"], "a")
    assert meteor.process_id is None


def test_killed_between_requests_it_says_so_and_starts_again(tmp_path: Path) -> None:
    with Meteor(java=fake_java(tmp_path, ECHO)) as meteor:
        meteor.statistics(["a"], "a")
        first = meteor.process_id
        assert first is not None
        os.kill(first, signal.SIGKILL)
        started = time.monotonic()
        with pytest.raises(JavaProcessError, match="process ended"):
            meteor.statistics(["a"], "a")
        assert time.monotonic() - started < SOON
        assert meteor.statistics(["a"], "a").shape == (23,)
        assert meteor.process_id != first


def test_forgotten_it_is_ended_by_the_collector(tmp_path: Path) -> None:
    meteor = Meteor(java=fake_java(tmp_path, ECHO))
    meteor.statistics(["a"], "a")
    process_id = meteor.process_id
    assert process_id is not None
    del meteor
    gc.collect()
    assert not is_alive(process_id)


@pytest.mark.parametrize("ending", ["sys.exit(0)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_it_does_not_outlive_its_parent(tmp_path: Path, ending: str) -> None:
    program = fake_java(tmp_path, ECHO)
    script = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from oscar_core.metrics.meteor import Meteor\n"
        f"meteor = Meteor(java=Path({str(program)!r}))\nmeteor.statistics(['a'], 'a')\n"
        f"print(meteor.process_id, flush=True)\n{ending}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    process_id = int(done.stdout)
    deadline = time.monotonic() + SOON
    while is_alive(process_id) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(process_id)


@pytest.mark.timeout(600)
def test_the_real_program_killed_in_the_middle() -> None:
    """Real Java: an answer, SIGKILL while it works, a clear error within seconds."""
    with Meteor() as meteor:
        row = meteor.statistics(["a man is riding a horse"], "a man rides a horse")
        assert row.tolist() == [float(field) for field in ANSWER.split()]
        process_id = meteor.process_id
        assert process_id is not None
        os.kill(process_id, signal.SIGKILL)
        started = time.monotonic()
        with pytest.raises(JavaProcessError, match="process ended"):
            meteor.statistics(["a man is riding a horse"], "a man rides a horse")
        assert time.monotonic() - started < SOON
    assert not is_alive(process_id)
