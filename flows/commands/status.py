"""How far a run is, from its folder alone: `oscar-flow status DIR [--watch]`."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from flows.attempts import DONE as ATTEMPT_DONE
from flows.attempts import Attempt, read_attempts
from flows.commands.show import metrics_table
from flows.errors import FlowError
from flows.family import resident_bytes
from flows.progress import clock
from flows.run_folder import DONE, RUNNING, RunFolder, StepState, holder_of
from storage.artifacts import read_done

WAITING = "waiting"
GONE = "gone"
LOST = "not whole"
"""Attempts ended well, but the files are no longer what the done-mark says."""
WATCH_SECONDS = 1.0
PLAIN_EVERY_SECONDS = 15.0
"""Between two lines about the progress of a step, where no terminal shows it live."""
_STYLES = {DONE: "green", RUNNING: "bold", "failed": "red", LOST: "red", "stopped": "yellow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStatus:
    """One step as its folder shows it.

    state:    done, running, failed, stopped, waiting, gone (its process is) or not whole
    seconds:  spent on it so far; None where nothing was
    attempts: in words, e.g. "3 (out of memory, hung)"
    bytes:    memory of its process now, or the most it had; None where unknown
    said:     progress, or why it failed
    """

    step: str
    state: str
    seconds: float | None = None
    attempts: str = ""
    bytes: int | None = None
    said: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """A run at one moment.

    holder: who works on it, in words; "" for nobody
    """

    run: RunFolder
    steps: Sequence[StepStatus]
    holder: str

    @property
    def is_finished(self) -> bool:
        """Whether every step is done."""
        return all(step.state == DONE for step in self.steps)

    def line(self) -> str:
        """Where the run stands and what to do next, one line."""
        done = sum(step.state == DONE for step in self.steps)
        count = f"{done} of {len(self.steps)} steps done"
        if self.holder:
            return f"{count}; running: {self.holder}"
        if self.is_finished:
            return f"{count}; finished"
        return f"{count}; nobody works on it; to go on: oscar-flow resume {self.run.path}"

    def table(self) -> Table:
        """Every step, a line each."""
        table = Table(box=None, pad_edge=False)
        for heading in ("step", "state", "time", "attempts", "memory", "progress"):
            table.add_column(heading, no_wrap=heading in ("step", "state", "time", "memory"))
        for step in self.steps:
            table.add_row(
                step.step,
                Text(step.state, style=_STYLES.get(step.state, "")),
                "" if step.seconds is None else clock(step.seconds),
                step.attempts,
                "" if step.bytes is None else f"{step.bytes / 1e9:.2f} GB",
                Text(step.said),
            )
        return table

    def shown(self) -> RenderableType:
        """Table and line."""
        return Group(self.table(), "", Text(self.line()))


def show_status(run: Path, *, watch: bool, stream: IO[str]) -> None:
    """Tell how far a run is; with `watch` until it ends or Ctrl-C is pressed.

    Raises:
        FlowError: The folder holds no run.
    """
    folder = RunFolder(run)
    console = Console(file=stream, highlight=False, soft_wrap=not stream.isatty())
    status = status_of(folder)
    if watch and status.holder:
        with suppress(KeyboardInterrupt):
            if console.is_terminal:
                status = _watch_live(folder, console)
            else:
                status = _watch_plainly(folder, console, status)
    console.print(status.shown())
    if status.is_finished and (run / "metrics.json").is_file():
        console.print("", metrics_table(run / "metrics.json"))


def status_of(run: RunFolder) -> RunStatus:
    """The run as its folder shows it now.

    Raises:
        FlowError: The folder holds no run.
    """
    states = {state.step: state for state in run.states()}
    folders = _folders(run) or {step: state.folder for step, state in states.items()}
    if not folders:
        raise FlowError(f"{run.path}: no run here; oscar-flow run CONFIG --out {run.path}")
    attempts = read_attempts(run)
    return RunStatus(
        run=run,
        steps=[
            _step(run, step, name, states.get(step), attempts) for step, name in folders.items()
        ],
        holder=holder_of(run),
    )


def _folders(run: RunFolder) -> dict[str, str]:
    with suppress(OSError, ValueError, AttributeError):
        content = json.loads(run.steps.read_text(encoding="utf-8"))
        return {str(step): str(folder) for step, folder in content.items()}
    return {}


def _step(
    run: RunFolder, step: str, folder: str, state: StepState | None, attempts: Sequence[Attempt]
) -> StepStatus:
    """A step whose present folder has that name; a state of another folder is another's."""
    if state is not None and state.folder != folder:
        state = None
    mine = [each for each in attempts if f"{step}-{each.fingerprint[:12]}" == folder]
    tried = _in_words([each for each in mine if each.step == step], state)
    done = read_done(run.path / folder)
    if done is not None:
        return StepStatus(
            step=step,
            state=DONE,
            seconds=_number(done.summary, "seconds"),
            attempts=tried,
            bytes=_whole(_number(done.summary, "peak_bytes")),
        )
    if state is None:
        return StepStatus(step=step, state=WAITING, attempts=tried)
    known = state.state
    if known == RUNNING and not state.is_alive:
        known = GONE
    return StepStatus(
        step=step,
        state=LOST if known == DONE else known,
        seconds=state.seconds,
        attempts=tried,
        bytes=(resident_bytes(state.family) or None) if known == RUNNING else None,
        said=state.message or state.progress,
    )


def _in_words(attempts: Sequence[Attempt], state: StepState | None) -> str:
    """How many tries there were, the one that runs included, and how the others ended."""
    is_running = state is not None and state.state == RUNNING
    number = len(attempts) + is_running
    if not attempts and state is not None:
        number = max(number, state.attempt)
    badly = Counter(each.outcome for each in attempts if each.outcome != ATTEMPT_DONE)
    said = [f"{count} x {outcome}" if count > 1 else outcome for outcome, count in badly.items()]
    halvings = max((each.halvings for each in attempts), default=0)
    if halvings:
        said.append(f"batch / {2**halvings}")
    return f"{number} ({', '.join(said)})" if said else str(number or "")


def _watch_live(run: RunFolder, console: Console) -> RunStatus:
    status = status_of(run)
    with Live(status.shown(), console=console, transient=True, auto_refresh=False) as live:
        while status.holder:
            live.update(status.shown(), refresh=True)
            time.sleep(WATCH_SECONDS)
            status = status_of(run)
    return status


def _watch_plainly(run: RunFolder, console: Console, status: RunStatus) -> RunStatus:
    """A line for every step that changed, and for the progress of those that run."""
    told: dict[str, tuple[str, float]] = {}
    while status.holder:
        for line in _news(status, told):
            console.print(line, markup=False)
        time.sleep(WATCH_SECONDS)
        status = status_of(run)
    for line in _news(status, told):
        console.print(line, markup=False)
    return status


def _news(status: RunStatus, told: dict[str, tuple[str, float]]) -> Iterator[str]:
    now = time.monotonic()
    for step in status.steps:
        state, at = told.get(step.step, (WAITING, now))
        is_due = step.state == RUNNING and now - at >= PLAIN_EVERY_SECONDS
        if step.state != state or is_due:
            told[step.step] = (step.state, now)
            yield f"{step.step}  {step.state}  {step.said}".rstrip()


def _number(summary: Mapping[str, object], key: str) -> float | None:
    value = summary.get(key)
    return float(value) if isinstance(value, int | float) else None


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
