"""Goes on with a run, with the configuration that it keeps: `oscar-flow resume DIR`."""

import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from flows.commands.clean import DISCARDED
from flows.commands.run import Finished, opening_line, run
from flows.config import read_config
from flows.digests import DigestBook
from flows.errors import FlowError
from flows.identity import PreparedStep, prepare, reused_input, step_folders
from flows.pipeline import plan_of
from flows.plan import Plan
from flows.run_folder import RunFolder, locked


def resume_run(
    out: Path,
    *,
    from_step: str | None,
    settings: list[str],
    with_prefect: bool,
    stream: IO[str],
) -> Finished:
    """Run what is left of a run; with `from_step` that step anew and all that stand on it.

    Args:
        out: folder of the run.
        from_step: name of a step; what it and its followers made is set aside, not deleted.
        settings: `--set` values on top of the kept configuration.
        with_prefect: as in `flows.commands.run.run`.
        stream: where progress is told.

    Raises:
        FlowError: No run in that folder, no such step, or another process works on it.
    """
    folder = RunFolder(out)
    if not folder.config.is_file():
        raise FlowError(f"{out}: no run here; oscar-flow run CONFIG --out {out}")
    config = read_config(folder.config, settings)
    plan = plan_of(config)
    _check_same_kind(folder, plan)
    stream.write(opening_line(config, str(folder.config), out) + "\n")
    if from_step is not None:
        for name in set_aside(folder, plan, from_step):
            stream.write(f"set aside in {out / DISCARDED}: {name}\n")
    stream.flush()
    return run(config, out, with_prefect=with_prefect, stream=stream)


def set_aside(run: RunFolder, plan: Plan, step: str) -> list[str]:
    """Move what a step and its followers made to `discarded/<time>/`.

    Returns:
        Names of the folders moved.

    Raises:
        PlanError: No step of that name.
        RunLockedError: Another process works on the run.
    """
    plan.step(step)
    steps = [name for name in plan.names if name == step or step in plan.ancestors(name)]
    with locked(run):
        prepared = prepare(plan, run, DigestBook(run.digests))
        folders = [folder for name in steps for folder in _made(run, prepared[name])]
        if folders:
            place = _new_folder(run.path / DISCARDED)
            for folder in folders:
                os.rename(folder, place / folder.name)
                _forget(run, folder.name, place)
    return [folder.name for folder in folders]


def _made(run: RunFolder, prepared: PreparedStep) -> list[Path]:
    """The folder of a step; of a stage that copies from earlier folders of its own, those too."""
    if not reused_input(prepared.step):
        return [prepared.folder] if prepared.folder.is_dir() else []
    return step_folders(run, prepared.step.name)


def _forget(run: RunFolder, folder: str, place: Path) -> None:
    """What the run knows of attempts at a folder goes with it."""
    step = folder.rpartition("-")[0]
    attempts = run.path / "attempts" / f"{folder}.jsonl"
    if attempts.is_file():
        os.rename(attempts, place / attempts.name)
    state = run.read_state(step)
    if state is not None and state.folder == folder:
        (run.path / "state" / f"{step}.json").unlink(missing_ok=True)


def _new_folder(parent: Path) -> Path:
    """A folder named by the time; a number behind it where there is one."""
    name = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    parent.mkdir(exist_ok=True)
    for number in range(1000):
        place = parent / (f"{name}-{number}" if number else name)
        with suppress(FileExistsError):
            place.mkdir()
            return place
    raise FlowError(f"{parent}: no free name; make room with oscar-flow clean {parent.parent}")


def _check_same_kind(run: RunFolder, plan: Plan) -> None:
    """A folder of `oscar-flow describe` keeps a configuration, too, but has steps of its own."""
    known: list[str] = []
    with suppress(OSError, ValueError):
        known = list(json.loads(run.steps.read_text(encoding="utf-8")))
    strange = [name for name in known if name == "write_captions" and name not in plan.names]
    if strange:
        raise FlowError(
            f"{run.path}: made by oscar-flow describe; give that command again to go on with it"
        )
