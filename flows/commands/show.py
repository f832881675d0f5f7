"""Tables for the terminal: what would run, what runs, what came out."""

from pathlib import Path

from rich.table import Table

from flows.digests import DigestBook
from flows.errors import FlowError
from flows.identity import prepare
from flows.plan import Plan
from flows.progress import clock
from flows.report.metrics_file import read_metrics
from flows.run_folder import DONE, RunFolder

SHOWN_NEEDS = 4
CONTROLS = ("_features_shuffled", "_shuffled")


def plan_table(plan: Plan, out: Path) -> Table:
    """Every step: whether it would run, and why."""
    run = RunFolder(out)
    prepared = prepare(plan, run, DigestBook(run.digests))
    table = Table(box=None, pad_edge=False)
    for heading in ("step", "would run", "why", "takes"):
        table.add_column(heading, no_wrap=heading in ("step", "would run"))
    for name in plan.names:
        step = prepared[name]
        needs = sorted(plan.needs(name), key=plan.names.index)
        takes = ", ".join(needs) if len(needs) <= SHOWN_NEEDS else f"{len(needs)} steps"
        table.add_row(name, "no" if step.is_done else "yes", step.why, takes)
    return table


def status_table(run: RunFolder) -> Table:
    """Every step that was ever attempted, oldest first.

    Raises:
        FlowError: The folder holds no run.
    """
    states = run.states()
    if not states:
        raise FlowError(f"{run.path}: no run here; oscar-flow run CONFIG --out {run.path}")
    table = Table(box=None, pad_edge=False)
    for heading in ("step", "state", "time", "attempt", "progress"):
        table.add_column(heading, no_wrap=heading != "progress")
    for state in states:
        known = state.state if state.state != "running" or state.is_alive else "gone"
        what = state.message or ("" if state.state == DONE else state.progress)
        table.add_row(state.step, known, clock(state.seconds), str(state.attempt), what)
    return table


def metrics_table(path: Path) -> Table:
    """`metrics.json` with each score beside its controls.

    Raises:
        FlowError: There is no such file.
    """
    try:
        metrics = read_metrics(path)
    except OSError as error:
        raise FlowError(f"{path}: {error.strerror}; run the run's command again") from error
    table = Table(box=None, pad_edge=False)
    table.add_column("metric", no_wrap=True)
    for heading in ("right", "features of another", "all of another"):
        table.add_column(heading, justify="right")
    for name in metrics:
        if not name.endswith(CONTROLS):
            values = [metrics.get(f"{name}{control}") for control in ("", *CONTROLS)]
            table.add_row(name, *("" if value is None else _number(value) for value in values))
    return table


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) and abs(value) > 1 else f"{value:.3f}"
