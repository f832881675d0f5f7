"""Processes that are asked to stop, stand still, fall by themselves or lack memory."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

from benchmarks.fault_cases import audit
from benchmarks.fault_cases.ground import Ground, held
from benchmarks.fault_cases.row import Fault, NotInjectedError, Row
from benchmarks.fault_cases.trial import Trial

TRAIN = "vqa_train"
DETECT = "detect"
ROUNDING = 0.02
"""Half the batch adds numbers in another order; a caption or two may turn out differently."""


def _asked_to_stop(ground: Ground, name: str, sent: signal.Signals) -> Iterator[Row]:
    trial, started, child, before = held(ground, name, TRAIN)
    proof = trial.kill(started.pid, sent)
    trial.go_on(TRAIN)
    ended = trial.wait(started)
    found = trial.left_alive()
    if "stopped" not in ended.line or ended.status not in (130, 143):
        found.append(f"it did not say that it stopped: {ended}")
    yield trial.row(
        name,
        done=f"{sent.name} to the run while it trains",
        proof=f"{proof}, whose child was {child}",
        happened=f"{ended}; the same command: {trial.run()}",
        before=before,
        found=found,
    )


def terminated(ground: Ground) -> Iterator[Row]:
    """SIGTERM to the run, as a service manager sends it."""
    yield from _asked_to_stop(ground, "run terminated", signal.SIGTERM)


def interrupted(ground: Ground) -> Iterator[Row]:
    """SIGINT to the run: Ctrl-C."""
    yield from _asked_to_stop(ground, "run interrupted", signal.SIGINT)


def child_terminated(ground: Ground) -> Iterator[Row]:
    """SIGTERM to the child alone, as a preempted machine gives notice."""
    name = "child preempted"
    trial, started, child, before = held(ground, name, TRAIN)
    proof = trial.kill(child, signal.SIGTERM)
    trial.go_on(TRAIN)
    ended = trial.wait(started)
    yield _after_attempt(trial, name, "SIGTERM to the child", proof, ended, before, "preempted")


def child_stopped(ground: Ground) -> Iterator[Row]:
    """SIGSTOP: the process stands still and does not even hear SIGTERM."""
    name = "child hangs (SIGSTOP)"
    trial, started, child, before = held(ground, name, TRAIN, "limits.train.heartbeat_seconds=15")
    proof = trial.kill(child, signal.SIGSTOP)
    trial.until(lambda: _state(child) in "TZX", f"process {child} to stand still")
    ended = trial.wait(started)
    yield _after_attempt(
        trial, name, "SIGSTOP, limit of 15 s without heartbeat", proof, ended, before, "hung"
    )


def child_silent(ground: Ground) -> Iterator[Row]:
    """The process lives and gives signs of life, and its work does not come on."""
    name = "child hangs (no progress)"
    trial, started, child, before = held(ground, name, TRAIN, "limits.train.silence_seconds=45")
    ended = trial.wait(started)
    proof = f"process {child} was held and never let go"
    yield _after_attempt(
        trial,
        name,
        "work stands still, limit of 45 s without progress",
        proof,
        ended,
        before,
        "hung",
    )


def orphan_stopped(ground: Ground) -> Iterator[Row]:
    """The child stands still while its parent dies: it sees no end-of-file and hears no signal."""
    name = "stopped child, parent killed"
    trial, started, child, before = held(ground, name, DETECT)
    proof = f"{trial.kill(child, signal.SIGSTOP)}, {trial.kill(started.pid)}"
    started.wait(timeout=30)
    yield trial.row(
        name,
        done="SIGSTOP to the child, then SIGKILL to the parent",
        proof=proof,
        happened=f"the same command: {trial.run()}",
        before=before,
    )


def segfault(ground: Ground) -> Iterator[Row]:
    """The child reads where there is nothing."""
    name = "child crashes (SIGSEGV)"
    trial = ground.fresh(name, before=TRAIN)
    trial.order({TRAIN: {"at": 4, "do": "segfault"}})
    before = trial.finished()
    started = trial.start()
    child = trial.reached(TRAIN, started)
    ended = trial.wait(started)
    proof = f"process {child} read address 0"
    yield _after_attempt(trial, name, "a read of address 0", proof, ended, before, "crashed")


def killed_twice(ground: Ground) -> Iterator[Row]:
    """SIGKILL of the child, and of the one that takes its place."""
    name = "child killed twice"
    trial = ground.fresh(name, before=TRAIN)
    trial.order({TRAIN: {"at": 3, "do": "hold", "times": 2}})
    before = trial.finished()
    started = trial.start()
    proof = " and ".join(trial.kill(trial.reached(TRAIN, started, each)) for each in range(2))
    yield trial.row(
        name,
        done="SIGKILL of the child in two tries of one step",
        proof=proof,
        happened=f"the same start: {trial.wait(started)}",
        before=before,
        tolerance=ROUNDING,
    )


def _short_of_memory(ground: Ground, name: str, step: str, do: str) -> Iterator[Row]:
    trial = ground.fresh(name, before=step)
    trial.order({step: {"at": 2, "do": do}})
    before = trial.finished()
    started = trial.start()
    child = trial.reached(step, started)
    ended = trial.wait(started)
    halvings = trial.summary(step).get("halvings", 0)
    found = [] if halvings == 1 else [f"batches were halved {halvings} times, not once"]
    yield _after_attempt(
        trial,
        name,
        f"{do} runs out in the middle of {step}",
        f"raised in process {child}",
        ended,
        before,
        "out of memory",
        found=found,
        tolerance=ROUNDING,
    )


def memory_in_training(ground: Ground) -> Iterator[Row]:
    """MemoryError while it trains: half the batch, twice the accumulation."""
    yield from _short_of_memory(ground, "out of memory in training", TRAIN, "memory")


def memory_in_extraction(ground: Ground) -> Iterator[Row]:
    """Torch's OutOfMemoryError while it extracts: half the batch."""
    yield from _short_of_memory(
        ground, "out of device memory in extraction", DETECT, "device memory"
    )


def machine_restarted(ground: Ground) -> Iterator[Row]:
    """After a restart process ids mean others: an innocent one must not be ended."""
    name = "machine restarted"
    trial, started, child, before = held(ground, name, TRAIN)
    os.kill(started.pid, signal.SIGSTOP)
    proof = trial.kill(child, group=True)
    trial.kill(started.pid, group=True)
    trial.clear()
    started.wait(timeout=30)
    with Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as innocent:
        try:
            _change_state(trial, TRAIN, pid=innocent.pid, boot_id="another start of the machine")
            ended = trial.run()
            found = (
                []
                if innocent.poll() is None
                else ["a process that had nothing to do with it was ended"]
            )
        finally:
            innocent.kill()
    yield trial.row(
        name,
        done="everything killed, then another boot id and the child's id given to another process",
        proof=f"{proof}; state/{TRAIN}.json names process {innocent.pid}",
        happened=f"the same command: {ended}",
        before=before,
        found=found,
    )


def java_killed(ground: Ground) -> Iterator[Row]:
    """The Java program that scores captions is killed at work."""
    name, step = "Java killed", "captioning_score"
    trial = ground.fresh(name, kind="captioning", before=step)
    before = trial.finished()
    started = trial.start()
    java: list[int] = []

    def is_there() -> bool:
        java[:] = [pid for pid in trial.processes() if "meteor" in audit.command_of(pid)]
        return bool(java)

    trial.until(is_there, "Java to start", started)
    proof = trial.kill(java[0])
    ended = trial.wait(started)
    happened = f"the same start: {ended}"
    if ended.status != 0:
        happened += f"; the same command: {trial.run()}"
    yield trial.row(
        name, done="SIGKILL of METEOR's Java", proof=proof, happened=happened, before=before
    )


def worker_killed(ground: Ground) -> Iterator[Row]:
    """A grandchild: one of the processes that render side by side."""
    name = "renderer killed"
    trial = ground.fresh(name)
    trial.settings.append("resources.threads=2")
    started = trial.start()
    workers: list[int] = []

    def are_there() -> bool:
        workers[:] = [pid for pid in trial.processes() if "spawn_main" in audit.command_of(pid)]
        return bool(workers)

    trial.until(are_there, "workers that render", started)
    proof = trial.kill(workers[0])
    ended = trial.wait(started)
    happened = f"the same start: {ended}"
    if ended.status != 0:
        happened += f"; the same command: {trial.run()}"
    yield trial.row(
        name, done="SIGKILL of a process that renders", proof=proof, happened=happened, before={}
    )


def _after_attempt(
    trial: Trial,
    name: str,
    done: str,
    proof: str,
    ended: object,
    before: dict[str, int],
    outcome: str,
    *,
    found: list[str] | None = None,
    tolerance: float = 0.0,
) -> Row:
    """The row of a fault that the same start notices and mends; its outcome stands on disk."""
    outcomes = trial.outcomes()
    if outcome not in outcomes:
        raise NotInjectedError(f"no attempt ended {outcome!r}, only {outcomes}; {ended}")
    return trial.row(
        name,
        done=done,
        proof=f"{proof}; attempt recorded as {outcome!r}",
        happened=f"the same start: {ended}",
        before=before,
        found=found or (),
        tolerance=tolerance,
    )


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _change_state(trial: Trial, step: str, **values: object) -> None:
    path = trial.out / "state" / f"{step}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


FAULTS = (
    Fault(name="run terminated", inject=terminated, is_short=True),
    Fault(name="run interrupted", inject=interrupted),
    Fault(name="child preempted", inject=child_terminated),
    Fault(name="child hangs (SIGSTOP)", inject=child_stopped),
    Fault(name="child hangs (no progress)", inject=child_silent),
    Fault(name="stopped child, parent killed", inject=orphan_stopped),
    Fault(name="child crashes", inject=segfault),
    Fault(name="child killed twice", inject=killed_twice),
    Fault(name="out of memory in training", inject=memory_in_training),
    Fault(name="out of device memory in extraction", inject=memory_in_extraction),
    Fault(name="machine restarted", inject=machine_restarted),
    Fault(name="Java killed", inject=java_killed),
    Fault(name="renderer killed", inject=worker_killed),
)
