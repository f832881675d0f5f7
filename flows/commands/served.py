"""What Prefect calls where a terminal calls `flows.cli`: the three flows of a served run.

Each reads the configuration anew, so a change counts from the next run on. The disk decides what
is new and what is done; a flow run that comes twice, late, or again by the UI's Retry repeats
nothing.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from flows.commands.run import run as run_config
from flows.config import RunConfig, read_config
from flows.errors import one_line, user_errors
from flows.orchestration.retraining import (
    Ended,
    announce,
    completed,
    failed,
    say,
    served_flow,
    show_outcome,
    too_late,
)
from flows.retrain import check_data, is_busy
from flows.retrain import retrain as retrain_run


@served_flow("oscar-check")
def check(config: str, out: str, settings: list[str], late_after: float = 0.0) -> Ended:
    """Look for new data; where there is some, `dataset.updated` is emitted. Runs nothing.

    Args:
        config: path of a YAML file, or name of a shipped one.
        out: folder of the run.
        settings: `KEY=VALUE` on top of it.
        late_after: seconds after which a scheduled look is left to the next; 0: never.
    """
    if too_late(late_after):
        return completed("skipped: it came long after its time, the next one looks")
    if is_busy(Path(out)):
        return completed(f"skipped: {out} is being written, the next one looks")
    try:
        found = check_data(read_config(Path(config), settings), Path(out))
    except _expected() as error:
        return failed(one_line(error))
    if found.has_news:
        announce(found, Path(out))
    return completed(str(found))


@served_flow("oscar-retrain")
def retrain(
    config: str, out: str, settings: list[str], reason: str = "by hand", force: bool = False
) -> Ended:
    """Learn from new data and let the gate decide; without new data nothing runs.

    Args:
        config: path of a YAML file, or name of a shipped one.
        out: folder of the run.
        settings: `KEY=VALUE` on top of it.
        reason: why it was started, for the log.
        force: run though nothing is new.
    """
    say(f"started: {reason}")
    try:
        chosen = read_config(Path(config), settings)
        outcome = retrain_run(chosen, Path(out), run=_run, tell=say, force=force)
    except _expected() as error:
        return failed(one_line(error))
    show_outcome(outcome, Path(out))
    return completed(str(outcome))


@served_flow("oscar-run")
def run(config: str, out: str, settings: list[str]) -> Ended:
    """Run the configuration as it stands; what is finished is left untouched.

    Args:
        config: path of a YAML file, or name of a shipped one.
        out: folder of the run.
        settings: `KEY=VALUE` on top of it.
    """
    try:
        folders = _run(read_config(Path(config), settings), Path(out))
    except _expected() as error:
        return failed(one_line(error))
    return completed(f"{len(folders)} steps are done in {out}")


def _expected() -> tuple[type[Exception], ...]:
    """What one line says enough of, a full disk included."""
    return (*user_errors(), OSError)


def _run(config: RunConfig, out: Path) -> Mapping[str, str]:
    return run_config(config, out, with_prefect=True, stream=sys.stdout).folders
