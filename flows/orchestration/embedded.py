"""Prefect's embedded server, which does not outlive this process, however that ends.

Prefect stops it at exit; after SIGKILL it would stay for ever, with its database open. A shell that
waits on a pipe ends it then: the pipe closes with this process.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def embedded_server() -> Iterator[None]:
    """Start the server that Prefect's clients in this process then find and use.

    Raises:
        RuntimeError: It does not start within Prefect's limit.
    """
    from prefect.server.api.server import SubprocessASGIServer

    server = SubprocessASGIServer()  # one for each process
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
