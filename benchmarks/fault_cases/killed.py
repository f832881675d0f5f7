"""Processes that are killed, stopped or fall: in every step, and in every way they can."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from subprocess import Popen

from benchmarks.fault_cases import audit
from benchmarks.fault_cases.ground import HALF_WAY, Ground
from benchmarks.fault_cases.row import Fault, NotInjectedError, Row
from benchmarks.fault_cases.trial import Trial

Kill = Callable[[Trial, "Popen[bytes]", int], str]
"""Kills a parent, its held child, or both; returns the proof."""


def _everywhere(
    ground: Ground, name: str, done: str, kill: Kill, *, starts_again: bool
) -> Iterator[Row]:
    """One run from its beginning, which is hit once in the middle of every step.

    Rows share the end of the run, so that it takes one run and not eleven.
    """
    usual = ground.undisturbed()
    trial = ground.fresh(name)
    trial.order({step: {"at": HALF_WAY.get(step, 1), "do": "hold"} for step in usual.steps})
    hits: list[tuple[Row, dict[str, int]]] = []
    started = trial.start()
    for number, step in enumerate(usual.steps):
        child = trial.reached(step, started)
        before = trial.finished()
        proof = kill(trial, started, child)
        trial.gone(child)
        found: list[str] = []
        happened = "the same start tries again"
        if starts_again:
            status = started.wait(timeout=60)
            found = trial.left_alive()
            happened = f"exit {status}; the same command goes on"
            started = trial.start()
        lost = set(usual.steps[:number]) - {audit.step_of(each) for each in before}
        found += [f"{each}: finished work was lost" for each in sorted(lost)]
        row = Row(name=f"{name}: {step}", done=done, proof=proof, happened=happened)
        hits.append((replace(row, complaints=tuple(found), rerun=(step,)), before))
    ended = trial.wait(started)
    if ended.status != 0:
        raise NotInjectedError(f"the run did not come to its end: {ended}")
    whole = trial.row(name, done=done, proof="", happened="", before={})
    after = trial.finished()
    for row, before in hits:
        twice = [f"{each}: done again" for each in audit.done_again(before, after)]
        yield replace(
            row,
            metrics=whole.metrics,
            complaints=(*row.complaints, *twice, *whole.complaints),
            seconds=whole.seconds / len(hits),
        )


def _kill_child(trial: Trial, started: "Popen[bytes]", child: int) -> str:
    return trial.kill(child)


def _kill_parent(trial: Trial, started: "Popen[bytes]", child: int) -> str:
    proof = trial.kill(started.pid)
    if started.wait(timeout=30) != -signal.SIGKILL:
        raise NotInjectedError(f"the parent ended with {started.returncode}")
    return proof


def _kill_all(trial: Trial, started: "Popen[bytes]", child: int) -> str:
    """Parent, child and whatever else belongs to the run, as a power cut does."""
    os.kill(started.pid, signal.SIGSTOP)  # it must not see the child die
    proof = trial.kill(child, group=True)
    trial.kill(started.pid, group=True)
    trial.clear()
    if started.wait(timeout=30) != -signal.SIGKILL:
        raise NotInjectedError(f"the parent ended with {started.returncode}")
    return f"{proof} and to its parent {started.pid}"


def child_killed(ground: Ground) -> Iterator[Row]:
    """SIGKILL of the child, once in every step of one run."""
    yield from _everywhere(
        ground, "child killed", "SIGKILL of the child", _kill_child, starts_again=False
    )


def parent_killed(ground: Ground) -> Iterator[Row]:
    """SIGKILL of the parent, once in every step of one run."""
    yield from _everywhere(
        ground, "parent killed", "SIGKILL of the parent", _kill_parent, starts_again=True
    )


def all_killed(ground: Ground) -> Iterator[Row]:
    """SIGKILL of everything at once, once in every step of one run."""
    yield from _everywhere(
        ground, "all killed", "SIGKILL of the whole group", _kill_all, starts_again=True
    )


FAULTS = (
    Fault(name="child killed", inject=child_killed),
    Fault(name="parent killed", inject=parent_killed),
    Fault(name="all killed", inject=all_killed),
)
