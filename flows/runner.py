"""Runs one step: skipped when done, else in a child process, with limits and retries.

`run_step` is all that an orchestrator wraps. It returns when the step's folder carries its
done-mark, or raises.
"""

import json
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flows.child import MARK, Request
from flows.errors import (
    CRASHED_BY_SIGNAL,
    FATAL,
    KILLED,
    STOPPED,
    CancelledError,
    ExitStatus,
    StageFailedError,
)
from flows.identity import IDENTITY, PreparedStep, config_as_json
from flows.process import Ended, boot_id, run_child, start_ticks
from flows.progress import ProgressReport, clock
from flows.run_folder import DONE, FAILED, RUNNING, RunFolder, StepState, utc_now
from flows.run_folder import STOPPED as STATE_STOPPED
from storage.artifacts import atomic_write_json, read_done

HEARTBEAT_SECONDS = 5.0
ALREADY_DONE = "already done"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEvent:
    """Something a watcher may want to show.

    kind:  "started", "progress", "log" (a line of the child's log), "waiting" (for a free device),
           "done", "already done", "retry", "failed" or "stopped"
    level: of a "log" event, a name of `logging`
    """

    step: str
    kind: str
    message: str = ""
    report: ProgressReport | None = None
    level: str = "INFO"


Tell = Callable[[StepEvent], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How hard to try.

    retries:       how often a temporary failure (exit status 75) is tried again
    retry_seconds: wait before the first retry; doubles each time, with a jitter of a half
    grace_seconds: between SIGTERM and SIGKILL
    """

    retries: int = 3
    retry_seconds: float = 2.0
    grace_seconds: float = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """How a step came to be done."""

    step: str
    state: str
    seconds: float
    summary: Mapping[str, Any]


def run_step(
    prepared: PreparedStep,
    run: RunFolder,
    *,
    threads: int,
    effort: Effort,
    tell: Tell,
    stop: threading.Event,
) -> StepResult:
    """Bring one step to its done-mark.

    Args:
        prepared: the step with its folder, inputs and fingerprint.
        run: the run it belongs to.
        threads: compute threads of the child.
        effort: retries and their waits.
        tell: told what happens.
        stop: set by another thread to end the step early.

    Raises:
        StageFailedError: The stage failed for good; the message is one line.
        CancelledError: `stop` was set.
    """
    name = prepared.step.name
    done = read_done(prepared.folder) if prepared.folder.is_dir() else None
    if done is not None and done.fingerprint == prepared.fingerprint:
        tell(StepEvent(step=name, kind=ALREADY_DONE))
        return StepResult(step=name, state=ALREADY_DONE, seconds=0.0, summary=done.summary)
    started = time.monotonic()
    _Attempts(prepared, run, threads, effort, tell, stop).until_done()
    done = read_done(prepared.folder)
    if done is None:
        raise StageFailedError(name, 0, f"{name}: ended without its done-mark in {prepared.folder}")
    seconds = time.monotonic() - started
    tell(StepEvent(step=name, kind="done", message=clock(seconds)))
    return StepResult(step=name, state=DONE, seconds=seconds, summary=done.summary)


def child_environment(threads: int, own: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a stage: this one's, its number of threads, no network, no analytics."""
    count = str(threads)
    return {
        **(os.environ if own is None else own),
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "NUMEXPR_NUM_THREADS": count,
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while they wait slow busy machines down
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
        "MALLOC_ARENA_MAX": "2",
    }


class _Attempts:
    """The attempts at one step."""

    def __init__(
        self,
        prepared: PreparedStep,
        run: RunFolder,
        threads: int,
        effort: Effort,
        tell: Tell,
        stop: threading.Event,
    ) -> None:
        self._prepared = prepared
        self._run = run
        self._threads = threads
        self._effort = effort
        self._tell = tell
        self._stop = stop
        self._name = prepared.step.name
        self._log = run.log(self._name, prepared.fingerprint)
        before = run.read_state(self._name)
        same = before is not None and before.fingerprint == prepared.fingerprint
        self._seconds_before = before.seconds if before is not None and same else 0.0
        self._started_at = utc_now()
        self._state: StepState | None = None
        self._progress = ""
        self._error = ""
        self._last_beat = float("-inf")

    def until_done(self) -> None:
        """Attempt, and attempt again where the exit status says that it may help."""
        self._prepared.folder.mkdir(parents=True, exist_ok=True)
        atomic_write_json(self._prepared.folder / IDENTITY, dict(self._prepared.identity))
        temporary = crashed = halvings = attempt = 0
        while True:
            attempt += 1
            ended = self._attempt(attempt, halvings)
            if ended.is_stopped or self._stop.is_set():
                self._finish(STATE_STOPPED, "stopped")
                raise CancelledError(f"{self._name}: stopped")
            if ended.status == ExitStatus.DONE:
                self._finish(DONE, "")
                return
            message = self._message(ended)
            if ended.at_limit or ended.status in FATAL:
                raise self._failed(ended, message)
            if ended.status in STOPPED:
                self._finish(STATE_STOPPED, message)
                raise CancelledError(f"{self._name}: {message}")
            if ended.status in KILLED or ended.status in CRASHED_BY_SIGNAL:
                halvings += ended.status in KILLED
                crashed += 1
                if crashed > 1:
                    raise self._failed(ended, message)
            else:
                temporary += 1
                if temporary > self._effort.retries:
                    raise self._failed(ended, message)
            self._wait(temporary + crashed, message)

    def _attempt(self, attempt: int, halvings: int) -> Ended:
        prepared = self._prepared
        self._error = ""
        request = Request(
            stage=prepared.step.stage,
            config=_as_mapping(config_as_json(prepared.step.config)),
            inputs={name: _as_text(place) for name, place in prepared.inputs.items()},
            outputs={name: str(place) for name, place in prepared.outputs.items()},
            folder=str(prepared.folder),
            fingerprint=prepared.fingerprint,
            halvings=halvings,
            seconds_before=self._seconds_before,
        )
        path = self._run.request(self._name)
        atomic_write_json(path, asdict(request))
        self._tell(StepEvent(step=self._name, kind="started"))
        self._last_beat = float("-inf")
        ended = run_child(
            [sys.executable, "-u", "-m", "flows.child", str(path)],
            environment=child_environment(self._threads),
            stop=self._stop,
            limit_seconds=prepared.step.limits.seconds,
            grace_seconds=self._effort.grace_seconds,
            on_start=lambda pid: self._begin(pid, attempt),
            on_line=self._on_line,
            on_poll=self._beat,
        )
        self._seconds_before += ended.seconds
        return ended

    def _begin(self, pid: int, attempt: int) -> None:
        self._state = StepState(
            step=self._name,
            folder=self._prepared.folder.name,
            fingerprint=self._prepared.fingerprint,
            state=RUNNING,
            attempt=attempt,
            started_at=self._started_at,
            updated_at=utc_now(),
            seconds=self._seconds_before,
            pid=pid,
            start_ticks=start_ticks(pid),
            boot_id=boot_id(),
            host=socket.gethostname(),
            log=str(self._log.relative_to(self._run.path)),
        )
        with suppress(OSError):
            self._run.write_state(self._state)
        self._write_log("INFO", f"attempt {attempt}: process {pid}, {self._threads} threads")

    def _beat(self, seconds: float) -> None:
        """Keep the state file fresh, so that `status` and a later run know it lives."""
        if seconds - self._last_beat < HEARTBEAT_SECONDS:
            return
        self._last_beat = seconds
        self._update(RUNNING, "", self._seconds_before + seconds)

    def _finish(self, state: str, message: str) -> None:
        self._update(state, message, self._seconds_before)

    def _update(self, state: str, message: str, seconds: float) -> None:
        if self._state is None:
            return
        known = replace(
            self._state,
            state=state,
            message=message,
            seconds=round(seconds, 2),
            progress=self._progress,
        )
        with suppress(OSError):  # the same: what the stage itself cannot write, it says
            self._run.write_state(known)

    def _on_line(self, line: str) -> None:
        """One line of the child's output: progress goes to the watcher, the rest to the log."""
        message = _parsed(line)
        if message is None:
            self._write_log("INFO", line)
        elif message[MARK] == "progress":
            report = ProgressReport(**{k: v for k, v in message.items() if k != MARK})
            self._progress = str(report)
            self._tell(StepEvent(step=self._name, kind="progress", report=report))
        elif message[MARK] == "error":
            self._error = str(message.get("message", ""))
            self._write_log("ERROR", self._error)
        else:
            self._write_log(
                str(message.get("level", "INFO")),
                str(message.get("message", "")),
                str(message.get("logger", "")),
            )

    def _write_log(self, level: str, message: str, logger: str = "") -> None:
        entry = {"time": utc_now(), "level": level, "logger": logger, "message": message}
        with suppress(OSError):  # a full disk must not stop the reading of the child's output
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def _message(self, ended: Ended) -> str:
        """One line: what happened, where the log lies."""
        log = self._log
        if ended.at_limit:
            limit = clock(self._prepared.step.limits.seconds or 0)
            return (
                f"killed at its time limit of {limit} (last progress: {self._progress or 'none'}); "
                f"raise limits.{self._prepared.step.stage}.seconds, or run the same command again "
                "to go on from the last checkpoint"
            )
        if self._error:
            if ended.status == ExitStatus.CRASHED:
                return f"{self._error} (log: {log})"
            return self._error
        if ended.status in KILLED:
            return f"killed, most likely for want of memory (log: {log})"
        if ended.status < 0:
            return f"ended by signal {-ended.status} (log: {log})"
        last = next((line for line in reversed(ended.last_lines) if line.strip()), "no output")
        return f"exit status {ended.status}: {last[:300]} (log: {log})"

    def _failed(self, ended: Ended, message: str) -> StageFailedError:
        self._finish(FAILED, message)
        self._tell(StepEvent(step=self._name, kind="failed", message=message))
        status = None if ended.at_limit else ended.status
        return StageFailedError(self._name, status, f"{self._name}: {message}")

    def _wait(self, number: int, message: str) -> None:
        """Wait longer each time; the jitter keeps parallel branches from retrying together."""
        delay = self._effort.retry_seconds * 2 ** (number - 1) * random.uniform(0.5, 1.5)
        self._tell(
            StepEvent(step=self._name, kind="retry", message=f"{message}; again in {clock(delay)}")
        )
        self._write_log("WARNING", f"again in {delay:.1f} s: {message}")
        if self._stop.wait(delay):
            self._finish(STATE_STOPPED, "stopped")
            raise CancelledError(f"{self._name}: stopped")


def _parsed(line: str) -> dict[str, Any] | None:
    if not line.startswith(f'{{"{MARK}"'):
        return None
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def _as_text(place: Path | Mapping[str, Path]) -> str | dict[str, str]:
    if isinstance(place, Path):
        return str(place)
    return {name: str(each) for name, each in place.items()}


def _as_mapping(plain: object) -> Mapping[str, Any]:
    if not isinstance(plain, dict):
        raise TypeError("a stage's Config must be a dataclass")
    return plain
