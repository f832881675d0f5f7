"""A stage's own process: `python -m flows.child request.json`.

Reads the request, runs the stage, writes DONE.json last. Its exit status tells the parent what to
do (`flows.errors.ExitStatus`); its standard output carries one JSON object a line, marked by the
key "oscar", beside whatever libraries print.
"""

import json
import logging
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from flows.errors import ExitStatus, exit_status, one_line
from flows.identity import stage_module
from flows.process import GRACE_SECONDS
from flows.progress import Progress, ProgressReport

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes there, kB elsewhere
MARK = "oscar"
"""Key of a line's kind: "progress", "log" or "error"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a child is asked to do; one JSON file.

    config:         the stage's config as JSON values
    inputs:         input name -> path, or a mapping of paths
    halvings:       how often the batch was halved for want of memory
    seconds_before: spent on the same work by earlier attempts
    watch_parent:   end the whole process group when standard input ends
    scale:          values of a `flows.scale.Scale`; empty for one process
    attempt:        number of this try at the step
    """

    stage: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str | Mapping[str, str]]
    outputs: Mapping[str, str]
    folder: str
    fingerprint: str
    halvings: int = 0
    seconds_before: float = 0.0
    watch_parent: bool = True
    scale: Mapping[str, Any] = field(default_factory=dict)
    attempt: int = 1


class LineHandler(logging.Handler):
    """Log records as JSON lines on standard output."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        send("log", level=record.levelname, logger=record.name, message=record.getMessage())


def send(kind: str, **values: object) -> None:
    """Write one line to the parent."""
    sys.stdout.write(json.dumps({MARK: kind, **values}, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def tell(report: ProgressReport) -> None:
    """Send a progress report to the parent."""
    send("progress", **asdict(report))


def watch_parent() -> None:
    """End the own process group when standard input ends, which is when the parent is gone.

    Not PR_SET_PDEATHSIG: that fires when the parent's *thread* ends (orchestration.md, 5).
    """

    def wait() -> None:
        while os.read(0, 4096):
            pass
        group = os.getpgid(0)
        os.killpg(group, signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        os.killpg(group, signal.SIGKILL)

    threading.Thread(target=wait, name="parent-watch", daemon=True).start()


def run_request(request: Request) -> None:
    """Run the stage and mark its folder as done.

    Raises:
        Exception: Whatever the stage raises.
    """
    from pydantic import TypeAdapter

    from storage.artifacts import write_done

    module = stage_module(request.stage)
    config = TypeAdapter(module.Config).validate_python(request.config)
    config = _halved(config, getattr(module, "SHRINKABLE", ()), request.halvings)
    folder = Path(request.folder)
    folder.mkdir(parents=True, exist_ok=True)
    inputs = module.Inputs(**{name: _paths(place) for name, place in request.inputs.items()})
    outputs = module.Outputs(**{name: Path(place) for name, place in request.outputs.items()})
    started = time.monotonic()
    summary = module.run(config, inputs, outputs, Progress(tell))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    write_done(
        folder,
        request.fingerprint,
        {
            **asdict(summary),
            "seconds": round(request.seconds_before + time.monotonic() - started, 2),
            "cpu_seconds": round(
                usage.ru_utime + usage.ru_stime + children.ru_utime + children.ru_stime, 2
            ),
            "peak_bytes": max(usage.ru_maxrss, children.ru_maxrss) * _RSS_UNIT,
        },
    )


def main(path: str) -> ExitStatus:
    """Run the request of that file; every error becomes an exit status and one line."""
    signal.signal(signal.SIGTERM, _cancelled)
    signal.signal(signal.SIGINT, _cancelled)
    logging.basicConfig(level=logging.INFO, handlers=[LineHandler()])
    logging.captureWarnings(True)
    request = Request(**json.loads(Path(path).read_text(encoding="utf-8")))
    if request.watch_parent:
        watch_parent()
    try:
        run_request(request)
    except Exception as error:
        send("log", level="ERROR", logger=__name__, message=traceback.format_exc())
        send("error", message=one_line(error, Path(request.folder)))
        return exit_status(error)
    return ExitStatus.DONE


def _cancelled(signum: int, frame: FrameType | None) -> NoReturn:
    """Leave at once; what was written so far is whole, every file appears by rename."""
    raise SystemExit(int(ExitStatus.CANCELLED))


def _paths(place: str | Mapping[str, str]) -> Path | dict[str, Path]:
    if isinstance(place, str):
        return Path(place)
    return {name: Path(each) for name, each in place.items()}


def _halved(config: Any, names: tuple[str, ...], halvings: int) -> Any:
    """The config with smaller batches; a stage lists fields that do not change its results."""
    if halvings == 0 or not names:
        return config
    sizes = {name: max(1, getattr(config, name) >> halvings) for name in names}
    return replace(config, **sizes)


if __name__ == "__main__":
    code = main(sys.argv[1])
    sys.stdout.flush()
    os._exit(code) if code else sys.exit(0)
