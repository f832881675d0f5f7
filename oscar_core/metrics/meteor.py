"""METEOR 1.5 for English settings: one Java process, asked for statistics; we do the arithmetic.

Only `SCORE` requests are sent. The 23 numbers of an answer determine the segment score and, summed,
the corpus score, so the locale-dependent `EVAL` request is not needed (specs/metrics.md 6.2).
"""

import os
import queue
import selectors
import subprocess
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from oscar_core.metrics.compat import OURS, MetricCompat
from oscar_core.metrics.errors import JavaProcessError
from oscar_core.metrics.java import LOCALE_FLAGS, SMALL_JVM_FLAGS, find_jar, find_java, stop, tail
from oscar_core.metrics.ptb import on_one_line

NUM_STATISTICS = 23
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75  # METEOR 1.5, `-l en`
STAGE_WEIGHTS = (1.0, 0.6, 0.8, 0.6)  # exact, stem, synonym, paraphrase; METEOR 1.5, `-l en`

HEAP_FLAG = "-Xmx1G"  # same values as 2G on 2,000 images, 0.9 GB instead of 1.5
FIRST_ANSWER_SECONDS = 240.0  # reading the paraphrase table took 6 to 86 s
ANSWER_SECONDS = 60.0

_Lines = queue.SimpleQueue[str | None]


def segment_score(statistics: NDArray[np.float64]) -> float:
    """METEOR of one segment, in [0, 1].

    Args:
        statistics: (23,) lengths, matches per stage, chunks and matched words of one answer.

    Source: METEOR 1.5 scorer/MeteorScorer; field order in specs/metrics.md section 6.2.
    """
    return _score(statistics, _effective_chunks(statistics))


def corpus_score(statistics: NDArray[np.float64]) -> float:
    """METEOR of a corpus: the segment formula on sums, not the mean of the segments.

    Args:
        statistics: (images, 23).
    """
    chunks = sum(_effective_chunks(row) for row in statistics)
    return _score(statistics.sum(axis=0), chunks)


def _effective_chunks(row: NDArray[np.float64]) -> float:
    """Chunks that are penalised: none where one chunk covers both sides completely."""
    hypothesis, reference, chunks, matched_hypothesis, matched_reference = row[[0, 1, 20, 21, 22]]
    complete = chunks == 1 and matched_hypothesis == hypothesis and matched_reference == reference
    return 0.0 if complete else float(chunks)


def _score(row: NDArray[np.float64], chunks: float) -> float:
    precision = _weighted_share(row, side=0)
    recall = _weighted_share(row, side=1)
    if precision == 0 or recall == 0:
        return 0.0
    f_mean = 1.0 / ((1.0 - ALPHA) / precision + ALPHA / recall)
    fragmentation = chunks / ((float(row[21]) + float(row[22])) / 2.0)
    return float(f_mean * (1.0 - GAMMA * fragmentation**BETA))


def _weighted_share(row: NDArray[np.float64], side: int) -> float:
    """Weighted matches over weighted words; side 0 the hypothesis, 1 the reference."""
    length, function_words = float(row[side]), float(row[2 + side])
    words = DELTA * (length - function_words) + (1.0 - DELTA) * function_words
    if words == 0:
        return 0.0
    matches = sum(
        weight
        * (DELTA * float(row[4 + 4 * k + side]) + (1.0 - DELTA) * float(row[6 + 4 * k + side]))
        for k, weight in enumerate(STAGE_WEIGHTS)
    )
    return matches / words


class Meteor:
    """A METEOR process that starts when first needed and is reused for every set of a run.

    Use it as a context manager. After a failure the process is gone and the next request starts
    another. Requests from several threads are answered one after the other.
    """

    def __init__(
        self,
        *,
        java: Path | None = None,
        first_answer_seconds: float = FIRST_ANSWER_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        """Nothing is started yet.

        Args:
            java: The program, `find_java()` by default.
            first_answer_seconds: Limit from the start of the process to its first answer.
            answer_seconds: Limit for each further answer.
        """
        self._java = java
        self._first_answer_seconds = first_answer_seconds
        self._answer_seconds = answer_seconds
        self._lock = threading.Lock()
        self._running: _Running | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def process_id(self) -> int | None:
        """Id of the Java process, None where none runs."""
        return self._running.process.pid if self._running else None

    def start(self) -> None:
        """Start loading the tables (6 to 80 seconds) while the caller does something else.

        Raises:
            JavaUnavailableError: There is no Java.
            JavaProcessError: It cannot be started.
        """
        with self._lock:
            self._started()

    def close(self) -> None:
        """End the process; nothing happens where none runs."""
        with self._lock:
            if self._running is not None:
                self._running.end(grace_seconds=3.0)
                self._running = None

    def statistics(
        self, references: Sequence[str], candidate: str, *, compat: MetricCompat = OURS
    ) -> NDArray[np.float64]:
        """The 23 numbers of the best of the references.

        Raises:
            JavaUnavailableError: There is no Java.
            JavaProcessError: The process died, hung, or answered something else.
        """
        line = request_line(references, candidate, compat=compat)
        with self._lock:
            running = self._started()
            try:
                return running.ask(line, self._first_answer_seconds, self._answer_seconds)
            except BaseException:  # an interrupt too: the next answer would be one line off
                running.end(grace_seconds=0.0)
                self._running = None
                raise

    def _started(self) -> "_Running":
        if self._running is None:
            self._running = _Running(self._java if self._java is not None else find_java())
        return self._running


def request_line(references: Sequence[str], candidate: str, *, compat: MetricCompat = OURS) -> str:
    """The request for one image, without its line end; `|||` only separates."""
    kept = [on_one_line(reference) for reference in references]
    if not compat.pipes_split_references:
        kept = [reference.replace("|||", "") for reference in kept]
    return " ||| ".join(("SCORE", *kept, on_one_line(candidate).replace("|||", "")))


class _Running:
    """The Java process and the two threads that empty its pipes."""

    def __init__(self, java: Path) -> None:
        jar = find_jar("meteor", "meteor-1.5.jar")
        command = [str(java), HEAP_FLAG, *SMALL_JVM_FLAGS, *LOCALE_FLAGS]
        command += ["-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
        try:
            self.process = subprocess.Popen(
                command,
                cwd=tempfile.gettempdir(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
            )
        except OSError as error:
            raise JavaProcessError(f"{java}: cannot be started ({error})") from error
        stdin, stdout, stderr = self.process.stdin, self.process.stdout, self.process.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None
        self._started_at = time.monotonic()
        self._has_answered = False
        self._answers: _Lines = queue.SimpleQueue()
        self._complaints: deque[str] = deque(maxlen=20)
        for target, arguments in (
            (_read_lines, (stdout, self._answers)),
            (_keep_last, (stderr, self._complaints)),
        ):
            threading.Thread(target=target, args=arguments, daemon=True).start()
        os.set_blocking(stdin.fileno(), False)
        # runs also when the interpreter ends; holds no lock and never waits for long
        self._finalizer = weakref.finalize(self, _end, self.process, 0.0)

    def ask(
        self, line: str, first_answer_seconds: float, answer_seconds: float
    ) -> NDArray[np.float64]:
        if self._has_answered:
            seconds = answer_seconds
            deadline = time.monotonic() + answer_seconds
        else:
            seconds = first_answer_seconds
            deadline = max(self._started_at + seconds, time.monotonic() + answer_seconds)
        self._send(line.encode("utf-8", errors="replace") + b"\n", deadline, seconds)
        try:
            answer = self._answers.get(timeout=max(deadline - time.monotonic(), 0.001))
        except queue.Empty:
            raise self._late(seconds) from None
        if answer is None:
            raise self._died()
        self._has_answered = True
        return self._parse(answer)

    def end(self, grace_seconds: float) -> None:
        self._finalizer.detach()
        _end(self.process, grace_seconds)

    def _send(self, payload: bytes, deadline: float, seconds: float) -> None:
        """Write without blocking: a process that reads nothing must not hold us."""
        assert self.process.stdin is not None
        descriptor = self.process.stdin.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_WRITE)
            while payload:
                if not selector.select(timeout=max(deadline - time.monotonic(), 0)):
                    raise self._late(seconds)
                try:
                    payload = payload[os.write(descriptor, payload) :]
                except BlockingIOError:
                    continue
                except OSError:
                    raise self._died() from None

    def _parse(self, answer: str) -> NDArray[np.float64]:
        try:
            numbers = np.array([float(field) for field in answer.split()], dtype=np.float64)
        except ValueError:
            numbers = np.zeros(0)
        if numbers.shape != (NUM_STATISTICS,):
            raise JavaProcessError(
                f"METEOR answered {answer[:80]!r} instead of {NUM_STATISTICS} numbers: "
                f"{tail(self._complaint())}"
            )
        return numbers

    def _complaint(self) -> str:
        return "\n".join(self._complaints)

    def _died(self) -> JavaProcessError:
        try:
            status: int | None = self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            status = None
        time.sleep(0.05)  # lets the thread that reads stderr finish
        return JavaProcessError(
            f"METEOR's Java process ended (status {status}): {tail(self._complaint())}; "
            "it needs about 1 GB of memory: try again with more free"
        )

    def _late(self, seconds: float) -> JavaProcessError:
        return JavaProcessError(
            f"METEOR gave no answer within {seconds:g} seconds, killed: {tail(self._complaint())}; "
            "the machine may be overloaded: try again"
        )


def _end(process: "subprocess.Popen[bytes]", grace_seconds: float) -> None:
    """Close its input, which makes METEOR leave; kill it where it does not."""
    assert process.stdin is not None
    process.stdin.close()
    stop(process, grace_seconds)


def _read_lines(pipe: BinaryIO, lines: _Lines) -> None:
    """Put every line into the queue, at the end None."""
    pending = b""
    with pipe:
        while chunk := pipe.read(65536):
            *complete, pending = (pending + chunk).split(b"\n")
            for line in complete:
                lines.put(line.decode("utf-8", errors="replace"))
    lines.put(None)


def _keep_last(pipe: BinaryIO, lines: deque[str]) -> None:
    """Read a pipe to its end, remembering the last lines."""
    with pipe:
        while chunk := pipe.read(65536):
            lines.extend(chunk.decode("utf-8", errors="replace").splitlines())
