"""Tables for the terminal: what would run, what came out."""

from pathlib import Path

from rich.table import Table
from rich.text import Text

from flows.digests import DigestBook
from flows.errors import FlowError
from flows.history import previous_metrics
from flows.identity import prepare
from flows.plan import Plan
from flows.report.metrics_file import read_metrics
from flows.run_folder import RunFolder

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
        table.add_row(
            name, "no" if step.is_done else "yes", Text("\n".join(step.reasons) or "done"), takes
        )  # a Text: names of photos are no markup
    return table


def metrics_table(path: Path) -> Table:
    """`metrics.json` with each score beside its controls, and beside the run's number before.

    Raises:
        FlowError: There is no such file.
    """
    try:
        metrics = read_metrics(path)
    except OSError as error:
        raise FlowError(f"{path}: {error.strerror}; run the run's command again") from error
    before = previous_metrics(RunFolder(path.parent))
    headings = ["right", "features of another", "all of another"]
    if before:
        headings.insert(1, "before")
    table = Table(box=None, pad_edge=False)
    table.add_column("metric", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right")
    for name in metrics:
        if not name.endswith(CONTROLS):
            values = [metrics.get(f"{name}{control}") for control in ("", *CONTROLS)]
            if before:
                values.insert(1, before.get(name))
            table.add_row(name, *("" if value is None else shown_number(value) for value in values))
    return table


def shown_number(value: float) -> str:
    """A metric as tables show it: counts whole, others to three places."""
    return f"{value:.0f}" if value == int(value) and abs(value) > 1 else f"{value:.3f}"
