"""One run to be disturbed: started as a user does, held in the middle of a step, gone on with."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flows
from benchmarks.fault_cases import audit
from benchmarks.fault_cases.row import NotInjectedError, NotPossibleError, Row

ROOT = Path(str(flows.__file__)).resolve().parents[1]
INSIDE = Path(__file__).with_name("inside")
PLAIN = "--no-prefect"
SECONDS = 600.0
"""Longest that anything here may take before it counts as hanging."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undisturbed:
    """A run that nothing happened to."""

    out: Path
    metrics: Mapping[str, Any]
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a start of the run ended. line: the error, or the last line printed."""

    status: int
    printed: str
    seconds: float

    @property
    def line(self) -> str:
        """What a user would look at."""
        lines = [each for each in self.printed.splitlines() if each.strip()]
        errors = [each for each in lines if each.startswith("error: ")]
        return (errors or lines or ["nothing printed"])[-1].strip()

    def __str__(self) -> str:
        """Exit status and line."""
        return f"exit {self.status}" + (f": {self.line}" if self.status else "")


@dataclass(slots=True, kw_only=True)
class Trial:
    """A run folder with its configuration and its orders for faults from within.

    settings:    `--set` values of every start
    environment: what differs from this process's
    prefix:      words in front of every command
    undisturbed: the run that it must equal in the end
    out_name:    of the run folder, inside `folder`
    """

    folder: Path
    config: Path
    undisturbed: Undisturbed | None = None
    out_name: str = "run"
    settings: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    prefix: list[str] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)
    _starts: int = 0

    def __post_init__(self) -> None:
        """Make the folders, with no orders in them."""
        self.out.mkdir()
        self.faults.mkdir()
        self.order({})

    @property
    def out(self) -> Path:
        """The run folder."""
        return self.folder / self.out_name

    @property
    def faults(self) -> Path:
        """Where `inside/sitecustomize.py` finds its orders; in the environment of all processes."""
        return self.folder / "faults"

    def order(self, orders: Mapping[str, Mapping[str, Any]]) -> None:
        """What is to happen inside which step."""
        (self.faults / "orders.json").write_text(json.dumps(orders))

    def hold(self, step: str, at: int = 1) -> None:
        """Let a step wait in the middle of writing its file number `at`."""
        self.order({step: {"at": at, "do": "hold"}})

    def go_on(self, step: str) -> None:
        """Let a held step go on."""
        (self.faults / f"{step}.go").touch()

    def command(self, *arguments: str) -> list[str]:
        """`oscar-flow` with these arguments."""
        return [sys.executable, "-W", "ignore", "-m", "flows", *arguments]

    def run_command(self, *arguments: str) -> list[str]:
        """`oscar-flow run` of this run; without Prefect unless `with_prefect` is said."""
        chosen = [each for each in arguments if each != "with_prefect"]
        plain = [] if "with_prefect" in arguments else [PLAIN]
        settings = [word for each in self.settings for word in ("--set", each)]
        return self.command(
            "run", str(self.config), "--out", str(self.out), *settings, *plain, *chosen
        )

    def start(self, *arguments: str, command: Sequence[str] = ()) -> "subprocess.Popen[bytes]":
        """Start the run in a process group of its own; its output goes to a file."""
        self._starts += 1
        with (self.folder / f"printed-{self._starts}.txt").open("wb") as printed:
            return subprocess.Popen(
                [*self.prefix, *(command or self.run_command(*arguments))],
                env=self._environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_hear_interrupts,
            )

    def wait(
        self,
        started: "subprocess.Popen[bytes]",
        seconds: float = SECONDS,
        *,
        printed_by: int | None = None,
    ) -> Ended:
        """Wait for the end of a start.

        Args:
            started: its process.
            seconds: how long.
            printed_by: number of the start whose output is meant; None for the latest.

        Raises:
            NotInjectedError: It hangs; it is killed.
        """
        since = time.monotonic()
        try:
            status = started.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.clear()
            raise NotInjectedError(f"still running after {seconds:.0f} s, killed") from None
        return Ended(
            status=status, printed=self.printed(printed_by), seconds=time.monotonic() - since
        )

    def run(self, *arguments: str) -> Ended:
        """Start the run and wait for its end."""
        return self.wait(self.start(*arguments))

    def say(self, *arguments: str) -> Ended:
        """Another command of `oscar-flow`, to its end."""
        return self.wait(self.start(command=self.command(*arguments)))

    def reached(self, step: str, started: "subprocess.Popen[bytes]", number: int = 0) -> int:
        """Wait until a step acts upon its order; the id of its process.

        Raises:
            NotInjectedError: The run ended before.
        """
        mark = self.faults / f"{step}.{number}.reached"
        self.until(mark.exists, f"{step} to come to its order", started)
        return int(mark.read_text())

    def until(
        self,
        condition: Callable[[], bool],
        what: str,
        started: "subprocess.Popen[bytes] | None" = None,
        seconds: float = SECONDS,
    ) -> None:
        """Wait for something to come true.

        Raises:
            NotInjectedError: It does not, or the run ended before.
        """
        end = time.monotonic() + seconds
        while not condition():
            if started is not None and started.poll() is not None and not condition():
                raise NotInjectedError(f"waited for {what}; the run ended: {self.wait(started)}")
            if time.monotonic() > end:
                raise NotInjectedError(f"waited {seconds:.0f} s in vain for {what}")
            time.sleep(0.02)

    def kill(self, pid: int, sent: signal.Signals = signal.SIGKILL, *, group: bool = False) -> str:
        """Send a signal to a process that lives, or to the whole group it leads.

        Returns:
            The proof: what was hit.

        Raises:
            NotInjectedError: It was gone already.
        """
        command = audit.command_of(pid)
        if not command:
            raise NotInjectedError(f"process {pid} was gone before {sent.name}")
        (os.killpg if group else os.kill)(pid, sent)
        return f"{sent.name} to {'group' if group else 'process'} {pid}"

    def gone(self, pid: int) -> None:
        """Wait until a process is no more.

        Raises:
            NotInjectedError: It survives.
        """
        self.until(lambda: not _lives(pid), f"the end of process {pid}", seconds=30)

    def clear(self) -> None:
        """End every process that this trial started and that is left."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def processes(self) -> list[int]:
        """Living processes of this trial, grandchildren included."""
        return audit.processes_with(self._mark())

    def drop_root(self) -> None:
        """Let file permissions count for every start, also where root runs this.

        Raises:
            NotPossibleError: The program that drops the right is not there.
        """
        if os.geteuid() == 0:
            if shutil.which("setpriv") is None:
                raise NotPossibleError("root ignores permissions, and setpriv is not installed")
            self.prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]

    def printed(self, number: int | None = None) -> str:
        """What the latest start printed so far, or start `number`."""
        path = self.folder / f"printed-{self._starts if number is None else number}.txt"
        return path.read_text(errors="replace")

    def summary(self, step: str) -> Mapping[str, Any]:
        """What a finished step told; empty where it is not finished."""
        for mark in self.out.glob(f"{step}-*/DONE.json"):
            content: Mapping[str, Any] = json.loads(mark.read_text())
            return content["summary"]  # type: ignore[no-any-return]  # a mapping
        return {}

    def outcomes(self) -> list[str]:
        """How every attempt at a step ended, as the run wrote it down."""
        lines = [
            line
            for path in sorted(self.out.glob("attempts/*.jsonl"))
            for line in path.read_text().splitlines()
        ]
        return [str(json.loads(line)["outcome"]) for line in lines]

    def left_alive(self, patience_seconds: float = 12.0) -> list[str]:
        """Processes that a run left behind when it was over."""
        return audit.left_alive(self._mark(), patience_seconds)

    def finished(self) -> dict[str, int]:
        """Files of finished steps and their times."""
        return audit.finished(self.out)

    def row(
        self,
        name: str,
        *,
        done: str,
        proof: str,
        happened: str,
        before: Mapping[str, int],
        again: Sequence[str] = (),
        tolerance: float = 0.0,
        found: Sequence[str] = (),
        may_differ: Sequence[str] = (),
    ) -> Row:
        """The row of a run that came to its end; everything that can be checked is checked.

        Args:
            name: as in `Row`.
            done: as in `Row`.
            proof: as in `Row`.
            happened: as in `Row`.
            before: `finished()` at the moment of the fault.
            again: steps whose finished files were damaged, and may be made anew.
            tolerance: of the metrics; above 0 files need not be equal byte for byte.
            found: complaints that are known already.
            may_differ: steps whose files differ for a good reason; the metrics must not.
        """
        usual = self.undisturbed
        if usual is None:
            raise ValueError("nothing to compare with")
        after = self.finished()
        twice = [each for each in audit.done_again(before, after) if each not in again]
        complaints = [
            *found,
            *(f"{each}: finished work was touched" for each in twice),
            *audit.complaints(self.out, None if tolerance else usual.out, may_differ),
            *self.left_alive(),
        ]
        return Row(
            name=name,
            done=done,
            proof=proof,
            happened=happened,
            rerun=audit.worked_on(before, after),
            metrics=audit.compared(audit.metrics_of(self.out), usual.metrics, tolerance),
            complaints=tuple(complaints),
            seconds=time.monotonic() - self._began,
        )

    def _mark(self) -> str:
        return f"OSCAR_FAULTS={self.faults}\0"

    def _environment(self) -> dict[str, str]:
        paths = [str(INSIDE), str(ROOT)]
        own = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "OSCAR_FLOW"))}
        return {
            **own,
            "PYTHONPATH": os.pathsep.join(paths),  # before whatever is installed
            "OSCAR_FAULTS": str(self.faults),
            "NO_COLOR": "1",
            "COLUMNS": "200",
            "TERM": "dumb",
            **self.environment,
        }


def _hear_interrupts() -> None:
    """A shell that starts this with & makes SIGINT unheard, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
