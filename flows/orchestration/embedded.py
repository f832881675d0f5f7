"""Prefect's embedded server, which does not outlive this process, however that ends.

Prefect stops it at exit; after SIGKILL it would stay for ever, with its database open. A shell that
waits on a pipe ends it then: the pipe closes with this process.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MAX_STARTS = 2
"""A port that somebody takes at the same moment is worth another one."""


@contextmanager
def embedded_server() -> Iterator[None]:
    """Start the server that Prefect's clients in this process then find and use.

    Raises:
        RuntimeError: It does not start within Prefect's limit, or ends as soon as it starts.
    """
    # 7 CPU seconds to import, which nobody should pay who has a server
    from prefect.server.api.server import SubprocessASGIServer

    class Bounded(SubprocessASGIServer):
        """Prefect's own would start a server again and again that ends at once, for ever."""

        num_starts = 0

        def _run_uvicorn_command(self) -> "subprocess.Popen[Any]":
            self.num_starts += 1
            if self.num_starts > MAX_STARTS:
                raise RuntimeError("the embedded server ends as soon as it starts")
            return super()._run_uvicorn_command()

    server = Bounded()  # one for each process; Prefect's clients find it as their own
    server.start()
    if server.server_process is None:
        yield
        return
    with subprocess.Popen(
        ["/bin/sh", "-c", 'read -r line; kill "$0"', str(server.server_process.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as watch:
        try:
            yield
        finally:
            watch.kill()
