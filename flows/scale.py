"""On how many processes and machines a run works; YAML section `scale`; in no fingerprint."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from storage.urls import WITHOUT_SECRET, carries_secret

Engine = Literal["local", "torchrun", "ray"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Engine and number of workers; what a stage cannot spread runs in one process.

    engine:      "torchrun": trainings and extraction, `workers` processes on each of `nodes`.
                 "ray": extraction through Ray Data, one actor a worker; the rest is local
    workers:     processes on this machine (torchrun), actors (ray)
    nodes:       machines that torchrun waits for
    node_rank:   number of this one, 0 for the one whose address is `rendezvous`
    rendezvous:  HOST:PORT of node 0; "" with one node
    ray_address: of a running cluster, e.g. "auto"; "" starts one here for the length of the step
    shared:      fsspec URL (`s3://bucket/prefix`) through which extraction workers of several
                 machines hand over their shards; "" where they see one file system
    """

    engine: Engine = "local"
    workers: int = 2
    nodes: int = 1
    node_rank: int = 0
    rendezvous: str = ""
    ray_address: str = ""
    shared: str = ""

    def __post_init__(self) -> None:
        """Check what can be seen without the machines."""
        if self.workers < 1 or self.nodes < 1 or not 0 <= self.node_rank < self.nodes:
            raise ValueError("workers and nodes must be 1 or more, node_rank one of the nodes")
        if self.nodes > 1 and not self.rendezvous:
            raise ValueError("several nodes need rendezvous: HOST:PORT of node 0")
        if carries_secret(self.shared):
            raise ValueError(f"shared: {WITHOUT_SECRET}")  # config.yaml keeps it


LOCAL = Scale(workers=1)
"""One process, as without the section."""


def engine_of(spreads: Mapping[str, str] | None, scale: Scale) -> Engine:
    """The engine that a stage really uses.

    Args:
        spreads: the stage module's `SPREADS`: engine -> dotted module whose `run` replaces the
            stage's there, "" for the stage's own `run`; None where the stage has none.
        scale: what the run asks for.
    """
    return scale.engine if scale.engine in (spreads or {}) else "local"
