"""Which graphics processors a step may use: one lock file for each, dropped by the kernel.

A lease kept by a server outlives its dead holder by a minute or more (specs/orchestration.md,
section 8); a lock of the kernel goes with the process that holds it. The step's child holds it,
too, so that it stays taken for as long as anything computes there. Lock files are never removed,
and lie on a local disk.
"""

import fcntl
import os
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from flows.errors import CancelledError, FlowError

LOCKS = "OSCAR_FLOW_LOCKS"
"""Folder of the lock files."""
GPUS = "OSCAR_FLOW_GPUS"
"""How many devices there are, where counting them would be wrong."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
LOOK_SECONDS = 0.25


class DeviceError(FlowError):
    """The locks of the devices cannot be kept, or their number is no number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Devices that nobody else uses meanwhile.

    devices:     as the driver names them
    descriptors: open lock files, for the child to hold
    """

    devices: tuple[str, ...] = ()
    descriptors: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def devices_here() -> tuple[str, ...]:
    """Names of this machine's devices that this process may use.

    Raises:
        DeviceError: OSCAR_FLOW_GPUS is no number.
    """
    visible = os.environ.get(VISIBLE)
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        return tuple(name for name in names if name and name != "-1")
    number = os.environ.get(GPUS)
    if number is None:
        found = Path("/dev").glob("nvidia[0-9]*")
        return tuple(sorted((path.name.removeprefix("nvidia") for path in found), key=_place))
    if not number.isdigit():
        raise DeviceError(f"{GPUS}={number}: not a number of devices; set 0 for none")
    return tuple(str(place) for place in range(int(number)))


@contextmanager
def claim_devices(
    num: int, on_wait: Callable[[str], None], stop: threading.Event
) -> Iterator[Claim]:
    """Have that many devices, or all where there are fewer; none where there are none.

    All at once or none, so that two who want two each never hold one each for ever.

    Args:
        num: how many.
        on_wait: told once, in a line, that there is something to wait for.
        stop: set to give up waiting.

    Raises:
        CancelledError: `stop` was set.
        DeviceError: The lock files cannot be used.
    """
    names = devices_here() if num else ()
    if not names:
        yield Claim()
        return
    num = min(num, len(names))
    folder = lock_folder()
    taken = _try(folder, names, num)
    if not taken:
        on_wait(f"waits for {num} of {len(names)} devices (locks in {folder})")
    while not taken:
        if stop.wait(LOOK_SECONDS):
            raise CancelledError("stopped while waiting for a device")
        taken = _try(folder, names, num)
    try:
        yield Claim(
            devices=tuple(taken),
            descriptors=tuple(taken.values()),
            environment={VISIBLE: ",".join(taken)},
        )
    finally:
        _close(taken)


def lock_folder() -> Path:
    """Where the lock files lie: OSCAR_FLOW_LOCKS, or a folder of the user's own.

    Raises:
        DeviceError: It cannot be made, or belongs to somebody else.
    """
    named = os.environ.get(LOCKS)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    own = f"oscar-flow-{os.getuid()}"
    folder = Path(named or Path(runtime or tempfile.gettempdir(), own))
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.lstat() if not named else folder.stat()
    except OSError as error:
        raise DeviceError(
            f"{folder}: {error.strerror}; name a local folder for locks of devices in {LOCKS}"
        ) from error
    if not stat.S_ISDIR(status.st_mode) or (not named and status.st_uid != os.getuid()):
        raise DeviceError(f"{folder}: not a folder of yours; name one in {LOCKS}")
    return folder


def _try(folder: Path, names: tuple[str, ...], num: int) -> dict[str, int]:
    """Name -> open lock file of `num` devices; {} where so many are not free."""
    taken: dict[str, int] = {}
    for name in names:
        place = folder / f"gpu-{name.replace('/', '-')}.lock"
        try:
            descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            _close(taken)
            raise DeviceError(f"{place}: {error.strerror}; see {LOCKS}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            continue
        taken[name] = descriptor
        if len(taken) == num:
            return taken
    _close(taken)
    return {}


def _close(taken: Mapping[str, int]) -> None:
    for descriptor in taken.values():
        with suppress(OSError):
            os.close(descriptor)


def _place(name: str) -> int:
    return int(name) if name.isdigit() else 0
