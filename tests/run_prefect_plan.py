"""A run of fake stages under Prefect, in its own process: `python -m tests.run_prefect_plan`.

Arguments: folder of the run, what its third step does (`write`, `bad`, `hang`, `count`), and the
seconds that takes. Prints the states of the steps as JSON, and warnings as a terminal would show
them; Prefect's settings must stand before Prefect is imported.
"""

import json
import signal
import sys
from pathlib import Path

from flows.errors import FlowError
from flows.orchestration.settings import prepare_environment
from flows.run_folder import RunFolder, locked
from flows.runner import StepEvent
from tests.builders_flows import make_execution, make_step


def main(folder: Path, action: str, seconds: float) -> int:
    """Four steps: `left` and `right` stand on `first`, `last` on `right`."""
    signal.signal(signal.SIGTERM, _terminate)
    prepare_environment(folder)
    from flows.orchestration.prefect_flow import run_with_prefect

    steps = [
        make_step("first"),
        make_step("left", takes="first"),
        make_step(
            "right",
            takes="first",
            action=action,
            seconds=seconds,
            times=1 if action == "bad" else 0,
        ),
        make_step("last", takes="right"),
    ]
    try:
        with locked(RunFolder(folder)):
            execution = make_execution(folder, steps, tell=_tell)
            results = run_with_prefect(execution, name=folder.name)
    except FlowError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    print(json.dumps({name: result.state for name, result in results.items()}))
    return 0


def _tell(event: StepEvent) -> None:
    if event.kind == "warning":
        sys.stderr.write(f"{event.step}: warning: {event.message}\n")


def _terminate(signum: int, frame: object) -> None:
    raise SystemExit(143)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]) if sys.argv[3:] else 60.0))
