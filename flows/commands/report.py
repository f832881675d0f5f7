"""Writes the report of a run again: `oscar-flow report DIR`."""

import threading
from pathlib import Path
from typing import IO

from flows.commands.run import REPORT_STEP, publish
from flows.config import read_config
from flows.digests import DigestBook
from flows.display import Display
from flows.errors import FlowError
from flows.identity import prepare
from flows.pipeline import plan_of
from flows.run_folder import RunFolder, locked
from flows.schedule import Execution


def write_report(out: Path, stream: IO[str]) -> Path:
    """Run the report's step alone, where what it stands on is done.

    Returns:
        The page.

    Raises:
        FlowError: No run in that folder, or one that is not finished.
    """
    folder = RunFolder(out)
    if not folder.config.is_file():
        raise FlowError(f"{out}: no run here; oscar-flow run CONFIG --out {out}")
    config = read_config(folder.config)
    plan = plan_of(config)
    with locked(folder), Display((REPORT_STEP,), stream) as display:
        prepared = prepare(plan, folder, DigestBook(folder.digests))
        missing = [name for name in plan.needs(REPORT_STEP) if not prepared[name].is_done]
        if missing:
            missing.sort(key=plan.names.index)
            raise FlowError(
                f"{out}: {', '.join(missing)} not done yet; oscar-flow run {folder.config} "
                f"--out {out}"
            )
        execution = Execution(
            plan=plan,
            prepared=prepared,
            run=folder,
            resources=config.resources,
            tell=display.tell,
            stop=threading.Event(),
        )
        execution.run_step(REPORT_STEP)
        publish(prepared[REPORT_STEP].folder, out)
    return out / "report.html"
