"""A run of fake stages under Prefect, in its own process: `python -m tests.run_prefect_plan`.

Arguments: folder of the run, and what its third step does (`write`, `bad`, `hang`). Prints the
states of the steps as JSON; Prefect's settings must stand before Prefect is imported.
"""

import json
import signal
import sys
from pathlib import Path

from flows.errors import FlowError
from flows.orchestration.settings import prepare_environment
from flows.run_folder import RunFolder, locked
from tests.builders_flows import make_execution, make_step


def main(folder: Path, action: str) -> int:
    """Four steps: `left` and `right` stand on `first`, `last` on `right`."""
    signal.signal(signal.SIGTERM, _terminate)
    prepare_environment(folder)
    from flows.orchestration.prefect_flow import run_with_prefect

    steps = [
        make_step("first"),
        make_step("left", takes="first"),
        make_step("right", takes="first", action=action, times=1 if action == "bad" else 0),
        make_step("last", takes="right"),
    ]
    try:
        with locked(RunFolder(folder)):
            results = run_with_prefect(make_execution(folder, steps), name=folder.name)
    except FlowError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    print(json.dumps({name: result.state for name, result in results.items()}))
    return 0


def _terminate(signum: int, frame: object) -> None:
    raise SystemExit(143)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
