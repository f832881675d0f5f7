"""How a dry run takes times.

On a processor: its own time with one thread, so that whatever else the machine does makes no
difference; a step's threads are taken to share it evenly. On an accelerator: wall time.
"""

import os
import time
from collections.abc import Callable

import torch

from flows.config import RunConfig


def device_here() -> torch.device:
    """An accelerator where there is one."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def seconds_of(call: Callable[[], object]) -> float:
    """Time of one call [seconds]."""
    if torch.accelerator.is_available():
        start = time.perf_counter()
        call()
        torch.accelerator.synchronize()
        return time.perf_counter() - start
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        start = time.process_time()
        call()
        return time.process_time() - start
    finally:
        torch.set_num_threads(threads)


def speed_up(config: RunConfig, processes: int = 1) -> float:
    """By how much a step is faster than what was measured.

    Args:
        config: threads of a process, and machines.
        processes: that share the work, on all machines together.
    """
    if torch.accelerator.is_available():
        return processes
    cores = (os.cpu_count() or 1) * config.scale.nodes
    return min(config.resources.threads * processes, max(cores, config.resources.threads))


def how_measured(config: RunConfig, processes: int = 1) -> str:
    """In words, for the user."""
    if torch.accelerator.is_available():
        shared = f", divided by {processes} processes" if processes > 1 else ""
        return f"measured on {device_here()}{shared}"
    threads = f"{speed_up(config, processes):.0f} threads"
    return f"measured here on one thread, as if {threads} shared it evenly"
