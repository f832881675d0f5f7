"""A run of fake stages in its own process, to be killed: `python -m tests.run_fake_plan`.

Arguments: folder of the run, seconds, and what its second step does (`count` unless named).
"""

import signal
import sys
from pathlib import Path

from flows.errors import FlowError
from flows.run_folder import RunFolder, locked
from flows.schedule import run_plan
from tests.builders_flows import make_execution, make_step


def main(folder: Path, seconds: float, action: str = "count") -> int:
    """Three steps; the second counts slowly to a hundred, or goes wrong once."""
    signal.signal(signal.SIGTERM, _terminate)
    times = 0 if action == "count" else 1
    steps = [
        make_step("first"),
        make_step("second", takes="first", action=action, seconds=seconds, times=times),
        make_step("third", takes="second"),
    ]
    try:
        with locked(RunFolder(folder)):
            run_plan(make_execution(folder, steps))
    except FlowError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _terminate(signum: int, frame: object) -> None:
    raise SystemExit(143)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2]), *sys.argv[3:]))
