"""torchrun's agent as a child of the runner: `python -m flows.orchestration.torchrun ...`.

Takes the arguments of `torch.distributed.run`, the last one being the request of `flows.child`.
Ends when its standard input ends, which is when the runner is gone; answers with the exit status
of the worker that is to blame, where torchrun would always answer 1.
"""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path

from flows.child import send
from flows.errors import ExitStatus, exit_status, one_line
from flows.ranks import exits_folder, forget_exits, worst_exit, write_exit


def main(arguments: Sequence[str]) -> int:
    """Start the workers and wait for them."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    from flows.orchestration.loopback import register

    threading.Thread(target=_end_with_runner, name="parent-watch", daemon=True).start()
    options = run.parse_args(list(arguments))  # type: ignore[no-untyped-call]  # torch's
    folder = exits_folder(Path(arguments[-1]))
    forget_exits(folder)
    share_threads(int(options.nproc_per_node))
    register()
    if options.nnodes == "1":
        _stay_on_this_machine()
    try:
        run.run(options)  # type: ignore[no-untyped-call]  # torch's
    except SignalException:
        return ExitStatus.CANCELLED
    except ChildFailedError as error:
        for number, failure in error.failures.items():
            write_exit(folder, failure.exitcode, "", number=number)
        status, message = worst_exit(folder) or (int(ExitStatus.CRASHED), "")
        if message:
            send("error", message=message)
        return status if status >= 0 else 128 - status  # as a shell names a signal
    except Exception as error:  # the machines did not find each other, the port was taken
        send("log", level="ERROR", logger=__name__, message=traceback.format_exc())
        send("error", message=one_line(error))
        return exit_status(error)
    return ExitStatus.DONE


def _end_with_runner() -> None:
    """SIGTERM to the own process at end-of-file; torchrun's handler ends the workers then."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def share_threads(workers: int) -> None:
    """Divide this process's threads among the workers, who inherit the environment."""
    for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR"):
        variable = f"{name}_NUM_THREADS"
        if variable in os.environ:
            os.environ[variable] = str(max(1, int(os.environ[variable]) // workers))


def _stay_on_this_machine() -> None:
    """Workers of one machine talk over its loopback device, whatever its name resolves to."""
    if Path("/sys/class/net/lo").exists():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)
