"""The command that starts a step's child: one process, or several under torchrun.

torchrun gives every worker a session of its own, so ending the group of the command below ends
the agent and not the workers; those notice it themselves (`flows.ranks.watch_launcher`, and
end-of-file on the standard input that they share with the agent). A worker that is stopped
(SIGSTOP) notices nothing: `flows.family` finds it.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from flows.scale import Scale, engine_of

SHUTDOWN_SECONDS = 30
"""What torchrun's agent leaves its workers between SIGTERM and SIGKILL; the runner's own grace is
shorter and ends the agent."""


def child_command(spreads: Mapping[str, str] | None, scale: Scale, request: Path) -> list[str]:
    """Program and arguments that work on a request.

    Args:
        spreads: The stage module's `SPREADS`, None where it has none.
        scale: Engine, processes and machines of the run.
        request: JSON file of a `flows.child.Request`.
    """
    python = [sys.executable, "-u", "-m"]
    child = ["flows.child", str(request)]
    if engine_of(spreads, scale) != "torchrun" or scale.workers * scale.nodes == 1:
        return [*python, *child]
    options = [
        f"--nproc-per-node={scale.workers}",
        "--max-restarts=0",  # one retry mechanism: the runner's, from the last checkpoint
        f"--shutdown-timeout={SHUTDOWN_SECONDS}",
        *_meeting(scale),
    ]
    return [*python, "flows.orchestration.torchrun", *options, "-m", *child]


def _meeting(scale: Scale) -> list[str]:
    """How the machines find each other; one alone stays on its loopback device."""
    options = [f"--nnodes={scale.nodes}"]
    if scale.nodes == 1:
        return [
            *options,
            "--rdzv-backend=loopback",  # flows.orchestration.loopback
            "--rdzv-endpoint=127.0.0.1",
            "--local-addr=127.0.0.1",
        ]
    host, _, port = scale.rendezvous.rpartition(":")
    return [
        *options,
        "--rdzv-backend=static",  # number 0 is the node of that address
        f"--node-rank={scale.node_rank}",
        f"--master-addr={host}",
        f"--master-port={port}",
    ]
