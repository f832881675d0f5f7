"""One measured figure, and the machine it was measured on."""

import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A median over `n` runs; `spread` is largest minus smallest, in the same unit."""

    name: str
    value: float
    unit: str
    n: int
    spread: float

    def __str__(self) -> str:
        """One line of the table."""
        return (
            f"{self.name:44} {self.value:12.4g} {self.unit:10} "
            f"n={self.n:<4} spread {self.spread:.3g}"
        )

    def as_dict(self) -> dict[str, object]:
        """The form that `--json` writes."""
        return asdict(self)


def side_by_side(runs: dict[str, Callable[[], object]], *, n: int = 5) -> dict[str, list[float]]:
    """Time several calls in turn, A B A B ..., after one unmeasured round; seconds of wall time.

    Taking turns lets every call meet the same moods of the machine, so that ratios hold.
    """
    for call in runs.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(n):
        for name, call in runs.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def timing(name: str, seconds: Sequence[float]) -> Figure:
    """Median time of one call."""
    return Figure(
        name=name,
        value=statistics.median(seconds),
        unit="s",
        n=len(seconds),
        spread=max(seconds) - min(seconds),
    )


def ratio(name: str, slow: Sequence[float], fast: Sequence[float]) -> Figure:
    """How many times faster: median of the ratios of neighbouring runs."""
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    return Figure(
        name=name,
        value=statistics.median(ratios),
        unit="x",
        n=len(ratios),
        spread=max(ratios) - min(ratios),
    )


def peak_bytes() -> int:
    """Largest resident size of this process since its program began.

    `getrusage` would count what the parent held when it started this process (Linux).
    """
    status = Path("/proc/self/status")
    if not status.exists():
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    line = next(each for each in status.read_text().splitlines() if each.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def machine() -> str:
    """One line: processor, cores, instruction set that torch uses, versions."""
    import torch

    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "pyarrow"))
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}, Python {platform.python_version()}, {packages}"
    )
