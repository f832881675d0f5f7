"""Shows what steps do: one live line for each that runs on a terminal, plain lines elsewhere."""

import threading
import time
from typing import IO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from flows.progress import Progress, ProgressReport
from flows.runner import ALREADY_DONE, StepEvent

PLAIN_EVERY_SECONDS = 15.0


class Display:
    """A watcher of step events; safe to call from several threads. Use as a context manager.

    Args:
        steps: names of all steps, for the width of the first column.
        stream: where to write.
        quiet: say nothing but failures.
    """

    def __init__(self, steps: tuple[str, ...], stream: IO[str], *, quiet: bool = False) -> None:
        self._console = Console(file=stream, highlight=False, soft_wrap=not stream.isatty())
        self._width = max((len(name) for name in steps), default=0)
        self._total = len(steps)
        self._over = 0
        self._quiet = quiet
        self._lock = threading.Lock()
        self._running: dict[str, tuple[float, ProgressReport | None]] = {}
        self._told_at: dict[str, float] = {}
        self._live: Live | None = None

    def __enter__(self) -> "Display":
        if self._console.is_terminal and not self._quiet:
            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def tell(self, event: StepEvent) -> None:
        """Show one event."""
        with self._lock:
            if event.kind == "started":
                self._running[event.step] = (time.monotonic(), None)
                if self._live is None:
                    self._line(event.step, "started")
            elif event.kind == "progress":
                self._progress(event)
            elif event.kind == "waiting":
                self._line(event.step, event.message, "yellow", is_important=True)
            elif event.kind != "log":
                self._ended(event)
            if self._live is not None:
                self._live.update(self._table())

    def _progress(self, event: StepEvent) -> None:
        since, _ = self._running.get(event.step, (time.monotonic(), None))
        self._running[event.step] = (since, event.report)
        last = self._told_at.get(event.step, since)
        if self._live is None and time.monotonic() - last >= PLAIN_EVERY_SECONDS:
            self._told_at[event.step] = time.monotonic()
            self._line(event.step, str(event.report))

    def _ended(self, event: StepEvent) -> None:
        self._running.pop(event.step, None)
        if event.kind in ("done", ALREADY_DONE):
            self._over += 1
            count = f"[{self._over}/{self._total}]"
            text = f"done in {event.message}" if event.kind == "done" else ALREADY_DONE
            self._line(event.step, f"{text}  {count}", "green" if event.kind == "done" else "dim")
        else:
            style = "red" if event.kind == "failed" else "yellow"
            self._line(event.step, f"{event.kind}: {event.message}", style, is_important=True)

    def _line(self, step: str, text: str, style: str = "", *, is_important: bool = False) -> None:
        if not self._quiet or is_important:
            self._console.print(f"{step:<{self._width}}  {text}", style=style, markup=False)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for step, (since, report) in self._running.items():
            seconds = f"{time.monotonic() - since:.0f} s"
            table.add_row(f"{step:<{self._width}}", seconds, str(report or "starting"))
        return table


def told_in_lines(stream: IO[str], every_seconds: float = PLAIN_EVERY_SECONDS) -> Progress:
    """Progress of a command that is no run: a plain line now and then, none for short work."""

    def tell(report: ProgressReport) -> None:
        if report.done > 0 and report.done != report.total:
            stream.write(f"{report}\n")
            stream.flush()

    return Progress(tell, every_seconds=every_seconds)
