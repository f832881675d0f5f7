"""Prefect's server and its database misbehave; the run must not be lost by it."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import Popen

from benchmarks.fault_cases import audit
from benchmarks.fault_cases.ground import Ground
from benchmarks.fault_cases.postgres import postgres
from benchmarks.fault_cases.row import Fault, NotInjectedError, Row
from benchmarks.fault_cases.trial import Trial
from tests.prefect_server import answers, ask, free_port, start_server, stop_server

STEP = "vqa_score"
"""In which it happens: late, so that a row takes seconds."""
WITH = "with_prefect"
PATIENCE_SECONDS = 60.0
"""For states that travel to a server that came back."""


class _Server:
    """A server that can be killed and started again at its address."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self._home, self._arguments, self._port = home, arguments, free_port()
        self.address = f"http://127.0.0.1:{self._port}/api"
        self._process: Popen[str] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = start_server(self._home, self._port, *self._arguments)
        end = time.monotonic() + 180
        while not answers(f"{self.address}/health"):
            if self._process.poll() is not None or time.monotonic() > end:
                raise NotInjectedError(f"the server did not start: {stop_server(self._process)}")
            time.sleep(0.2)

    def kill(self) -> str:
        """SIGKILL."""
        if self._process is None or self._process.poll() is not None:
            raise NotInjectedError("the server was gone before it was killed")
        self._process.kill()
        self._process.communicate()
        if answers(f"{self.address}/health"):
            raise NotInjectedError("the server still answers")
        return f"SIGKILL to the server, process {self._process.pid}; it answers no more"

    def states(self, expected: list[str]) -> list[str]:
        """States of all flow runs, oldest first, once they are as expected or time is up."""
        end = time.monotonic() + PATIENCE_SECONDS
        found: list[str] = []
        while found != expected and time.monotonic() < end:
            with suppress(OSError):  # busy, or not back yet
                runs = ask(self.address, "flow_runs", {"sort": "START_TIME_ASC"})
                found = [str(each["state_type"]) for each in runs]
            time.sleep(0.5)
        return found

    def stop(self) -> None:
        """Stop it kindly."""
        if self._process is not None:
            with suppress(Exception):
                stop_server(self._process)


@contextmanager
def _server(trial: Trial, *arguments: str) -> Iterator[_Server]:
    """A server beside a run, which is told its address."""
    server = _Server(trial.folder / "server", *arguments)
    try:
        server.start()
        trial.environment["PREFECT_API_URL"] = server.address
        yield server
    finally:
        server.stop()


def _held(trial: Trial) -> tuple["Popen[bytes]", int, dict[str, int]]:
    trial.hold(STEP)
    started = trial.start(WITH)
    child = trial.reached(STEP, started)
    return started, child, trial.finished()


def _gone_on(trial: Trial, started: "Popen[bytes]") -> str:
    """Let the run go on; where it gives up, the plain command must finish it."""
    trial.go_on(STEP)
    ended = trial.wait(started)
    warnings = [line for line in ended.printed.splitlines() if "goes on without" in line]
    said = f"the same start: {ended}" + (f" ({warnings[0].strip()[:120]})" if warnings else "")
    if ended.status != 0:
        said += f"; --no-prefect: {trial.run()}"
    return said


def down_at_start(ground: Ground) -> Iterator[Row]:
    """The server that was named does not answer."""
    name = "server down at start"
    trial = ground.fresh(name, before=STEP)
    address = f"http://127.0.0.1:{free_port()}/api"
    trial.environment["PREFECT_API_URL"] = address
    before = trial.finished()
    proof = "" if answers(f"{address}/health") else "nobody answers at PREFECT_API_URL"
    ended = trial.run(WITH)
    happened, found = str(ended), []
    if ended.status != 0:
        found = [] if ended.line.startswith("error: Prefect") else [f"it said {ended}"]
        happened += f"; as told, --no-prefect: {trial.run()}"
    yield trial.row(
        name,
        done="PREFECT_API_URL names a server that is not there",
        proof=proof,
        happened=happened,
        before=before,
        found=found,
    )


def killed_in_the_middle(ground: Ground) -> Iterator[Row]:
    """The server is gone from the middle of the run on."""
    name = "server down in the middle"
    trial = ground.fresh(name, before=STEP)
    with _server(trial) as server:
        started, _, before = _held(trial)
        proof = server.kill()
        happened = _gone_on(trial, started)
    yield trial.row(
        name,
        done="SIGKILL of the server in the middle of the run",
        proof=proof,
        happened=happened,
        before=before,
    )


def restarted_in_the_middle(ground: Ground) -> Iterator[Row]:
    """The server is killed and comes back while a step works."""
    name = "server restarted"
    trial = ground.fresh(name, before=STEP)
    with _server(trial) as server:
        started, _, before = _held(trial)
        proof = server.kill()
        server.start()
        happened = _gone_on(trial, started)
        states = server.states(["COMPLETED"])
    yield trial.row(
        name,
        done="SIGKILL of the server in the middle of the run, then started again",
        proof=proof,
        happened=f"{happened}; the server says {states}",
        before=before,
        found=[] if states == ["COMPLETED"] else [f"the server says {states}"],
    )


def database_restarted(ground: Ground) -> Iterator[Row]:
    """PostgreSQL under the server is stopped as by a crash and started again.

    What the server knows afterwards is told; the run must not depend on it.
    """
    name = "database restarted"
    trial = ground.fresh(name, before=STEP)
    with postgres(free_port()) as database, _server(trial, "--db", database.url) as server:
        started, _, before = _held(trial)
        proof = database.restart()
        happened = _gone_on(trial, started)
        states = server.states(["COMPLETED"])
    yield trial.row(
        name,
        done="PostgreSQL restarted (immediate) in the middle of the run",
        proof=proof,
        happened=f"{happened}; the server says {states}",
        before=before,
    )


def parent_killed(ground: Ground) -> Iterator[Row]:
    """A run that a kill left Running is marked Crashed by the next start."""
    name = "run left Running"
    trial = ground.fresh(name, before=STEP)
    with _server(trial) as server:
        started, _, before = _held(trial)
        proof = trial.kill(started.pid)
        started.wait(timeout=30)
        found = trial.left_alive()
        left = server.states(["RUNNING"])
        happened = f"the server says {left}; the same command: {trial.run(WITH)}"
        states = server.states(["CRASHED", "COMPLETED"])
    if states != ["CRASHED", "COMPLETED"]:
        found.append(f"the server says {states}")
    yield trial.row(
        name,
        done="SIGKILL of the run under a server",
        proof=proof,
        happened=f"{happened}; now it says {states}",
        before=before,
        found=found,
    )


def embedded_killed(ground: Ground) -> Iterator[Row]:
    """The embedded server is killed in the middle."""
    name = "embedded server killed"
    trial = ground.fresh(name, before=STEP)
    started, _, before = _held(trial)
    servers = [pid for pid in trial.processes() if "uvicorn" in audit.command_of(pid)]
    if not servers:
        raise NotInjectedError("no embedded server was found")
    proof = trial.kill(servers[0])
    happened = _gone_on(trial, started)
    yield trial.row(
        name,
        done="SIGKILL of the embedded server in the middle of the run",
        proof=proof,
        happened=happened,
        before=before,
    )


def embedded_parent_killed(ground: Ground) -> Iterator[Row]:
    """The run is killed: child and embedded server must go, too."""
    name = "parent killed, embedded server"
    trial = ground.fresh(name, before=STEP)
    started, _, before = _held(trial)
    proof = trial.kill(started.pid)
    started.wait(timeout=30)
    found = trial.left_alive()
    yield trial.row(
        name,
        done="SIGKILL of the run under the embedded server",
        proof=proof,
        happened=f"the same command: {trial.run(WITH)}",
        before=before,
        found=found,
    )


def terminated(ground: Ground) -> Iterator[Row]:
    """SIGTERM to a run under Prefect."""
    name = "run terminated under Prefect"
    trial = ground.fresh(name, before=STEP)
    started, _, before = _held(trial)
    proof = trial.kill(started.pid, signal.SIGTERM)
    ended = trial.wait(started, 120)
    found = trial.left_alive()
    if "stopped" not in ended.line or ended.status == 0:
        found.append(f"it did not say that it stopped: {ended}")
    yield trial.row(
        name,
        done="SIGTERM to the run under the embedded server",
        proof=proof,
        happened=f"{ended}; the same command: {trial.run(WITH)}",
        before=before,
        found=found,
    )


def database_damaged(ground: Ground) -> Iterator[Row]:
    """The embedded server's own database is nonsense."""
    name = "Prefect's database damaged"
    trial = ground.fresh(name, before=STEP)
    home = trial.folder / ".prefect"
    home.mkdir()
    (home / "prefect.db").write_bytes(b"not a database" * 500)
    before = trial.finished()
    ended = trial.run(WITH)
    happened = str(ended)
    if ended.status != 0:
        happened += f"; --no-prefect: {trial.run()}"
    yield trial.row(
        name,
        done="nonsense in .prefect/prefect.db",
        proof="7000 bytes of text",
        happened=happened,
        before=before,
    )


FAULTS = (
    Fault(name="server down at start", inject=down_at_start),
    Fault(name="server down in the middle", inject=killed_in_the_middle),
    Fault(name="server restarted", inject=restarted_in_the_middle),
    Fault(name="database restarted", inject=database_restarted),
    Fault(name="run left Running", inject=parent_killed),
    Fault(name="embedded server killed", inject=embedded_killed),
    Fault(name="parent killed, embedded server", inject=embedded_parent_killed),
    Fault(name="run terminated under Prefect", inject=terminated),
    Fault(name="Prefect's database damaged", inject=database_damaged),
)
