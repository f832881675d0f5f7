"""Runs one step: skipped when done, else in a child process, with limits and retries.

`run_step` is all that an orchestrator wraps. It returns when the step's folder carries its
done-mark, or raises.
"""

import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from flows import attempts
from flows.child import MARK
from flows.child_request import can_shrink, child_environment, num_devices, request_of
from flows.devices import claim_devices
from flows.errors import (
    CancelledError,
    ExitStatus,
    StageFailedError,
    exit_status,
    one_line,
)
from flows.failures import Failure, judge, num_memory_kills
from flows.family import new_mark
from flows.identity import IDENTITY, PreparedStep, stage_module
from flows.launch import child_command
from flows.process import Cut, Ended, run_child
from flows.progress import ProgressReport, clock
from flows.run_folder import DONE, FAILED, RETRYING, RunFolder
from flows.run_folder import STOPPED as STATE_STOPPED
from flows.scale import LOCAL, Scale
from flows.step_record import StepRecord
from flows.vigil import Furthest, Vigil
from storage.artifacts import DONE_NAME, atomic_write_json, read_done

ALREADY_DONE = "already done"
MOST_RETRY_SECONDS = 300.0
_PASSING = (ExitStatus.TRY_AGAIN, ExitStatus.OUT_OF_MEMORY)


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

    retries:       how often in a row a failure that may pass is tried again without the step
                   coming further; a stage's own limit wins
    retry_seconds: wait before the first retry; doubles each time up to `MOST_RETRY_SECONDS`, with
                   a jitter of a half
    grace_seconds: between SIGTERM and SIGKILL
    """

    retries: int = 3
    retry_seconds: float = 2.0
    grace_seconds: float = 6.0

    def delay(self, failures: int) -> float:
        """How long to wait after that many failures in a row [seconds]."""
        doubled = self.retry_seconds * 2.0 ** min(failures - 1, 30)
        return min(doubled, MOST_RETRY_SECONDS) * random.uniform(0.5, 1.5)


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
    scale: Scale = LOCAL,
) -> StepResult:
    """Bring one step to its done-mark.

    Args:
        prepared: the step with its folder, inputs and fingerprint.
        run: the run it belongs to.
        threads: compute threads of the child.
        effort: retries and their waits.
        tell: told what happens.
        stop: set by another thread to end the step early.
        scale: on how many processes and machines.

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
    work = _Work(prepared, run, threads, effort, tell, stop, scale)
    _Tries(work).until_done()
    done = read_done(prepared.folder)
    if done is None:
        raise StageFailedError(name, 0, f"{name}: ended without its done-mark in {prepared.folder}")
    seconds = time.monotonic() - started
    tell(StepEvent(step=name, kind="done", message=clock(seconds)))
    return StepResult(step=name, state=DONE, seconds=seconds, summary=done.summary)


@dataclass(frozen=True, slots=True)
class _Work:
    """Arguments of `run_step`."""

    prepared: PreparedStep
    run: RunFolder
    threads: int
    effort: Effort
    tell: Tell
    stop: threading.Event
    scale: Scale


class _Tries:
    """The tries at one step."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._prepared = work.prepared
        self._name = work.prepared.step.name
        self._furthest = Furthest()
        self._record = StepRecord(work.prepared, work.run, self._tell_log)
        self._halvings = self._record.halvings() if self._can_shrink(0) else 0
        self._failures = 0
        self._times_killed = 0

    def until_done(self) -> None:
        """Try, and try again where the end of the child says that it may help.

        Failures count as long as the step does not come further between them: a step that works
        for weeks may be interrupted more often than one that stands still.
        """
        while True:
            failure = self._try()
            if failure is None:
                self._record.finish(DONE, "")
                return
            if self._furthest.take():
                self._failures = 0
            self._failures += 1
            self._times_killed += failure.outcome == attempts.KILLED
            if failure.is_final or self._failures > self._retries():
                raise self._failed(failure)
            is_smaller = failure.for_memory and self._can_shrink(self._halvings)
            self._halvings += is_smaller
            self._wait(failure, " with half the batch" if is_smaller else "")

    def _can_shrink(self, halvings: int) -> bool:
        step = self._prepared.step
        return can_shrink(stage_module(step.stage), step.config, halvings)

    def _try(self) -> Failure | None:
        """One child; None where it did its work.

        Raises:
            CancelledError: The run is to stop.
        """
        memory_kills = num_memory_kills()
        vigil = Vigil(self._prepared.step.limits, self._work.stop)
        self._record.error = ""
        self._record.look_for_earlier_work()
        began = time.monotonic()
        try:
            ended = self._child(vigil)
        except OSError as error:
            failure = self._not_started(error)
            self._record.end_try(failure.outcome, None, failure.message, time.monotonic() - began)
            return failure
        except BaseException:
            self._record.end_try(attempts.STOPPED, None, "stopped", time.monotonic() - began)
            self._record.finish(STATE_STOPPED, "stopped")
            raise
        if ended.cut == "" and ended.status == ExitStatus.DONE:
            self._record.end_try(attempts.DONE, 0, "", ended.seconds)
            return None
        if ended.cut == "stopped" or self._work.stop.is_set():
            self._record.end_try(attempts.STOPPED, ended.status, "stopped", ended.seconds)
            raise self._stopped()
        now = num_memory_kills()
        was_short = None if now is None or memory_kills is None else now > memory_kills
        failure = self._cut_short(ended, vigil) or judge(
            ended,
            said=self._record.error,
            log=self._record.log,
            was_memory_short=was_short,
            times_killed=self._times_killed,
        )
        self._record.end_try(failure.outcome, ended.status, failure.message, ended.seconds)
        return failure

    def _make_folder(self) -> None:
        """A done-mark that does not hold any more must not come to hold again half-way."""
        folder = self._prepared.folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DONE_NAME).unlink(missing_ok=True)
        atomic_write_json(folder / IDENTITY, dict(self._prepared.identity))

    def _child(self, vigil: Vigil) -> Ended:
        """Start it, listen to it, wait for its end."""
        prepared, work = self._prepared, self._work
        self._make_folder()
        number, family = self._record.next_number(), new_mark()
        module = stage_module(prepared.step.stage)
        spreads = getattr(module, "SPREADS", None)
        request = work.run.request(self._name)
        wanted = request_of(
            prepared,
            work.scale,
            attempt=number,
            halvings=self._halvings,
            seconds_before=self._record.seconds_before,
        )
        atomic_write_json(request, asdict(wanted))
        num = num_devices(module, work.scale)
        with claim_devices(num, self._tell_waiting, work.stop) as claim:
            self._tell("started")
            return run_child(
                child_command(spreads, work.scale, request),
                environment={**child_environment(work.threads), **claim.environment},
                family=family,
                grace_seconds=work.effort.grace_seconds,
                descriptors=claim.descriptors,
                on_start=lambda pid: self._begin(pid, number, family, vigil),
                on_line=lambda line: self._on_line(line, vigil),
                verdict=lambda seconds: self._poll(seconds, vigil),
            )

    def _begin(self, pid: int, number: int, family: str, vigil: Vigil) -> None:
        vigil.begin()
        self._record.begin(pid, number=number, halvings=self._halvings, family=family)
        halved = f", batches divided by {2**self._halvings}" if self._halvings else ""
        self._record.write_log(
            "INFO", f"attempt {number}: process {pid}, {self._work.threads} threads{halved}"
        )

    def _poll(self, seconds: float, vigil: Vigil) -> Cut:
        self._record.beat(seconds)
        return vigil.verdict(seconds)

    def _on_line(self, line: str, vigil: Vigil) -> None:
        """One line of the child's output: progress goes to the watcher, the rest to the log."""
        message = _parsed(line)
        if message is None:
            self._record.write_log("INFO", line)
        elif message[MARK] == "heartbeat":
            vigil.heard(int(message.get("rank", 0)))
        elif message[MARK] == "leaving":
            vigil.left(int(message.get("rank", 0)))
        elif message[MARK] == "progress":
            report = ProgressReport(**{k: v for k, v in message.items() if k != MARK})
            vigil.progressed()
            self._furthest.at(report)
            self._record.show(report)
            self._tell("progress", report=report)
        else:
            self._record.read(message)

    def _cut_short(self, ended: Ended, vigil: Vigil) -> Failure | None:
        """The failure of a child that was ended from here; None for one that ended by itself."""
        stage, progress = self._prepared.step.stage, self._record.progress or "none"
        if ended.cut == "time limit":
            limit = clock(self._prepared.step.limits.seconds or 0)
            return Failure(
                outcome=attempts.TIME_LIMIT,
                message=f"killed at its time limit of {limit} (last progress: {progress}); raise "
                f"limits.{stage}.seconds, or run the same command again to go on from the last "
                "checkpoint",
                is_final=True,
            )
        if ended.cut == "hung":
            return Failure(
                outcome=attempts.HUNG, message=f"{vigil.why} (last progress: {progress}); killed"
            )
        return None

    def _not_started(self, error: OSError) -> Failure:
        """The machine refused the process, or the disk its request."""
        status = exit_status(error)
        return Failure(
            outcome=attempts.TEMPORARY if status in _PASSING else attempts.FAILED,
            message=one_line(error, self._prepared.folder),
            is_final=status not in _PASSING,
            status=status,
        )

    def _retries(self) -> int:
        own = self._prepared.step.limits.retries
        return self._work.effort.retries if own is None else own

    def _failed(self, failure: Failure) -> StageFailedError:
        message = failure.message
        if not failure.is_final and self._failures > 1:
            message = f"{message}; {self._failures} times in a row"
        self._record.finish(FAILED, message)
        self._tell("failed", message)
        return StageFailedError(self._name, failure.status, f"{self._name}: {message}")

    def _stopped(self) -> CancelledError:
        self._record.finish(STATE_STOPPED, "stopped")
        return CancelledError(f"{self._name}: stopped")

    def _wait(self, failure: Failure, how: str) -> None:
        """Wait longer each time; the jitter keeps parallel branches from retrying together."""
        delay = self._work.effort.delay(self._failures)
        text = f"{failure.message}; again{how} in {clock(delay)}"
        self._record.finish(RETRYING, text)
        self._tell("retry", text)
        self._record.write_log("WARNING", text)
        if self._work.stop.wait(delay):
            raise self._stopped()

    def _tell(self, kind: str, message: str = "", report: ProgressReport | None = None) -> None:
        self._work.tell(StepEvent(step=self._name, kind=kind, message=message, report=report))

    def _tell_log(self, level: str, message: str) -> None:
        self._work.tell(StepEvent(step=self._name, kind="log", message=message, level=level))

    def _tell_waiting(self, message: str) -> None:
        self._record.write_log("INFO", message)
        self._tell("waiting", message)


def _parsed(line: str) -> dict[str, Any] | None:
    if not line.startswith(f'{{"{MARK}"'):
        return None
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None
