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
from importlib import import_module
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from flows import child_scale
from flows.errors import ExitStatus, exit_status, one_line
from flows.identity import stage_module
from flows.intact import check_inputs
from flows.process import GRACE_SECONDS
from flows.progress import SILENT, Progress, ProgressReport
from flows.ranks import exits_folder, is_writer, rank, watch_launcher, world, write_exit
from flows.scale import LOCAL, Scale, engine_of

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes there, kB elsewhere
MARK = "oscar"
"""Key of a line's kind: "progress", "log", "error", "heartbeat" or "leaving"."""
BEAT_SECONDS = 1.0
_OWN_AND_CHILDREN = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
_sending = threading.Lock()


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
    """Write one line to the parent.

    Straight to the pipe: a stage may have given `sys.stdout` to somebody else for a while, and a
    line that another thread prints in pieces must not take this one into its middle.
    """
    line = json.dumps({MARK: kind, **values}, ensure_ascii=False) + "\n"
    rest = line.encode("utf-8", "replace")
    with _sending:
        while rest:
            rest = rest[os.write(1, rest) :]


def tell(report: ProgressReport) -> None:
    """Send a progress report to the parent."""
    send("progress", **asdict(report))


def beat() -> None:
    """Send a sign of life every moment, whatever the work does; from a thread of its own."""

    def send_signs() -> None:
        while True:
            send("heartbeat", rank=rank())
            time.sleep(BEAT_SECONDS)

    threading.Thread(target=send_signs, name="heartbeat", daemon=True).start()


def watch_parent() -> None:
    """End the own process group when standard input ends, which is when the parent is gone.

    Not PR_SET_PDEATHSIG: that fires when the parent's *thread* ends (orchestration.md, 5). Under
    torchrun the standard input is the agent's, and the agent may be killed alone.
    """

    def wait() -> None:
        while os.read(0, 4096):
            pass
        end_own_group()

    threading.Thread(target=wait, name="parent-watch", daemon=True).start()
    if world() > 1:
        watch_launcher(end_own_group)


def end_own_group() -> None:
    """SIGTERM to this process and all of its group, SIGKILL after the grace."""
    group = os.getpgid(0)
    os.killpg(group, signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.killpg(group, signal.SIGKILL)


def run_request(request: Request) -> None:
    """Run the stage and mark its folder as done.

    Raises:
        Exception: Whatever the stage raises.
    """
    from pydantic import TypeAdapter

    from storage.artifacts import write_done

    module = stage_module(request.stage)
    config = TypeAdapter(module.Config).validate_python(request.config)
    config = smaller_config(module, config, request.halvings)
    scale = Scale(**request.scale) if request.scale else LOCAL
    child_scale.set_scale(scale)
    folder = Path(request.folder)
    folder.mkdir(parents=True, exist_ok=True)
    taken = {name: _paths(place) for name, place in request.inputs.items()}
    check_inputs(taken)
    inputs = module.Inputs(**taken)
    outputs = module.Outputs(**{name: Path(place) for name, place in request.outputs.items()})
    progress = Progress(tell) if is_writer() else SILENT
    started = time.monotonic()
    summary = _spread(module, scale).run(config, inputs, outputs, progress)
    if is_writer():
        usage = _Usage.so_far()
        write_done(
            folder,
            request.fingerprint,
            {
                **asdict(summary),
                "seconds": round(request.seconds_before + time.monotonic() - started, 2),
                "cpu_seconds": usage.cpu_seconds,
                "peak_bytes": usage.peak_bytes,
                "halvings": request.halvings,
            },
        )


def main(path: str) -> int:
    """Run the request of that file; every error becomes an exit status and one line."""
    signal.signal(signal.SIGTERM, _cancelled)
    signal.signal(signal.SIGINT, _cancelled)
    sys.stdout.reconfigure(line_buffering=True, write_through=False)  # type: ignore[union-attr]
    logging.basicConfig(level=logging.INFO, handlers=[LineHandler()])
    logging.captureWarnings(True)
    request = Request(**json.loads(Path(path).read_text(encoding="utf-8")))
    if request.watch_parent:
        watch_parent()
    beat()
    status, message = _outcome(request)
    if status and world() > 1:
        write_exit(exits_folder(Path(path)), status, message)
    send("leaving", rank=rank())
    return status


def _outcome(request: Request) -> tuple[int, str]:
    """Exit status and one line of a request that was worked on."""
    try:
        run_request(request)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else ExitStatus.CRASHED, ""
    except Exception as error:
        send("log", level="ERROR", logger=__name__, message=traceback.format_exc())
        if child_scale.stop_requested.is_set():
            return ExitStatus.CANCELLED, ""
        message = one_line(error, Path(request.folder))
        if world() == 1:  # of several, torchrun's agent tells the one that is to blame
            send("error", message=message)
        return exit_status(error), message
    return ExitStatus.DONE, ""


def _cancelled(signum: int, frame: FrameType | None) -> None:
    """Leave at once, unless the stage asks between two steps whether it should.

    What was written so far is whole, every file appears by rename. A second signal is final, but
    not under torchrun, whose agent hands on the one that each process got already.
    """
    is_second = child_scale.stop_requested.is_set() and world() == 1
    if is_second or not child_scale.is_heeded():
        raise SystemExit(int(ExitStatus.CANCELLED))
    child_scale.stop_requested.set()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Usage:
    """Processor time and largest resident size of this process and of those it waited for."""

    cpu_seconds: float
    peak_bytes: int

    @classmethod
    def so_far(cls) -> "_Usage":
        usages = [resource.getrusage(who) for who in _OWN_AND_CHILDREN]
        return cls(
            cpu_seconds=round(sum(each.ru_utime + each.ru_stime for each in usages), 2),
            peak_bytes=max(each.ru_maxrss for each in usages) * _RSS_UNIT,
        )


def _spread(module: ModuleType, scale: Scale) -> ModuleType:
    """The module whose `run` the engine uses: the stage's own, or the one it names."""
    spreads = getattr(module, "SPREADS", None)
    other = (spreads or {}).get(engine_of(spreads, scale), "")
    return import_module(other) if other else module


def smaller_config(module: ModuleType, config: Any, halvings: int) -> Any:
    """The config that needs less memory and gives the same results.

    A stage says how by `shrunk(config, halvings)`, or lists fields to be halved in `SHRINKABLE`.
    """
    if halvings == 0:
        return config
    if hasattr(module, "shrunk"):
        return module.shrunk(config, halvings)
    names: tuple[str, ...] = getattr(module, "SHRINKABLE", ())
    return replace(config, **{name: max(1, getattr(config, name) >> halvings) for name in names})


def _paths(place: str | Mapping[str, str]) -> Path | dict[str, Path]:
    if isinstance(place, str):
        return Path(place)
    return {name: Path(each) for name, each in place.items()}


if __name__ == "__main__":
    code = main(sys.argv[1])
    sys.stdout.flush()
    os._exit(code) if code else sys.exit(0)
