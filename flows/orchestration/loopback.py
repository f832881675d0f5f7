"""torchrun's rendezvous for the workers of one machine, reached from that machine alone.

torchrun's own ones listen on every network, without a password; that of `--standalone` unpickles
what it is told. Whoever reaches such a port could stop the training, or run code.
"""

import socket
from datetime import timedelta

from torch.distributed import TCPStore  # type: ignore[attr-defined]  # not in its stubs' __all__
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousParameters,
    rendezvous_handler_registry,
)
from torch.distributed.elastic.rendezvous.static_tcp_rendezvous import StaticTCPRendezvous

NAME = "loopback"
"""Value of torchrun's `--rdzv-backend`."""
_HOST = "127.0.0.1"
_SECONDS = 600


class LoopbackRendezvous(StaticTCPRendezvous):
    """One agent, whose store listens on a free port of 127.0.0.1."""

    def __init__(self, run_id: str) -> None:
        listener = socket.socket()
        listener.bind((_HOST, 0))
        listener.listen(socket.SOMAXCONN)
        port = listener.getsockname()[1]
        super().__init__(_HOST, port, rank=0, world_size=1, run_id=run_id, timeout=_SECONDS)
        self._store = TCPStore(
            _HOST,
            port,
            1,
            True,
            timedelta(seconds=_SECONDS),
            multi_tenant=True,
            master_listen_fd=listener.detach(),
        )

    def get_backend(self) -> str:
        """The name it is registered by."""
        return NAME


def register() -> None:
    """Make the name known to torchrun."""
    rendezvous_handler_registry.register(NAME, _create)


def _create(parameters: RendezvousParameters) -> RendezvousHandler:
    return LoopbackRendezvous(parameters.run_id)
