"""Registered models of a run: `oscar-flow models list`, `promote` and `rollback`."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from rich.table import Table

from flows.commands.trained import config_of
from flows.dataset import read_digest
from flows.errors import FlowError, MissingModelError, SpoiledModelError
from flows.models import KEPT, PROMOTED, Registry, Version
from flows.register import register_finished
from flows.run_folder import RunFolder

SHOWN_METRICS = 3
CONTROL = "_shuffled"


def models_table(run: Path) -> Table:
    """Every version, oldest first.

    Raises:
        MissingModelError: There is no version yet.
    """
    registry = Registry(RunFolder(run))
    versions = registry.versions()
    if not versions:
        raise MissingModelError(
            f"{registry.path}: no version yet; oscar-flow models promote {run} registers a "
            "finished run"
        )
    table = Table(box=None, pad_edge=False)
    metrics = _shown(run, versions)
    for heading in ("version", "made", "from", *metrics, "state"):
        table.add_column(heading, no_wrap=heading != "state")
    states = _states(registry)
    for version in versions:
        lineage = version.lineage
        values = [lineage.metrics.get(name) for name in metrics]
        table.add_row(
            version.name,
            lineage.created,
            ", ".join(sorted(set(lineage.parents.values()))),
            *("" if value is None else f"{value:.4g}" for value in values),
            states[version.name],
        )
    return table


def promote(run: Path, version: str | None) -> str:
    """Make a version current; without a name the newest, the finished run registered first.

    Raises:
        MissingModelError: There is no such version, no finished run, or its models are spoiled.
    """
    registry = Registry(RunFolder(run))
    judged = registry.judged()
    finished = None if version else _finished(registry)
    name = version or (finished or registry.versions()[-1]).name
    promoted = registry.promote(name, why="asked for")
    data = read_digest(registry.run)
    if finished is not None and data is not None and (judged is None or judged.version != name):
        registry.settle(name, data.as_json())
    return f"version {promoted.name} is current: {promoted.folder}"


def rollback(run: Path, version: str | None) -> str:
    """Go back to what was current before, or to a named version.

    Raises:
        MissingModelError: There is nothing to go back to.
    """
    restored = Registry(RunFolder(run)).rollback(version)
    return f"version {restored.name} is current again: {restored.folder}"


def _finished(registry: Registry) -> Version | None:
    """What the run made last, be it registered already or not; None where it is not finished.

    Raises:
        MissingModelError: It is not, and there is no version either.
    """
    try:
        return register_finished(registry)
    except SpoiledModelError:
        raise
    except MissingModelError:
        if not registry.versions():
            raise
        return None


def _states(registry: Registry) -> Mapping[str, str]:
    """Version -> current, or what was said of it last."""
    states = {version.name: "registered" for version in registry.versions()}
    for event in registry.history():
        if event.version in states and event.event == KEPT:
            states[event.version] = f"kept aside: {event.why}"
        elif event.version in states and event.event == PROMOTED:
            states[event.version] = "past"
    for version, word in ((registry.previous(), "previous"), (registry.current(), "current")):
        if version is not None:
            states[version.name] = word
    return states


def _shown(run: Path, versions: list[Version]) -> list[str]:
    """The metrics of the gate, or the first that are measured."""
    gated: list[str] = []
    with suppress(FlowError):  # a configuration of another release hides no version
        gated = list(config_of(run).retrain.gate)
    measured = [name for name in versions[-1].lineage.metrics if not name.endswith(CONTROL)]
    return (gated or measured)[:SHOWN_METRICS]
