"""What can go wrong with the order of things, and which errors are the user's matter.

A child process tells its parent the kind of trouble by its exit status (`ExitStatus`, after
sysexits.h); a parent tells the user in one line.
"""

import errno
import re
from collections.abc import Iterator
from enum import IntEnum
from importlib import import_module
from pathlib import Path


class FlowError(Exception):
    """Base of all errors of this room."""


class ConfigError(FlowError):
    """A configuration is wrong; the message holds one line for every mistake found."""


class PlanError(FlowError):
    """The plan does not hold together: an input names no output, a step waits for itself."""


class RunLockedError(FlowError):
    """Another living process writes the same run folder."""


class MissingModelError(FlowError):
    """A command needs a trained model and the folder it was given holds none."""


class SpoiledModelError(MissingModelError):
    """A model is there, and its bytes are not those that were made."""


class OrchestratorError(FlowError):
    """Prefect's server does not answer or refuses; the steps themselves are not to blame."""


class StageFailedError(FlowError):
    """A stage ended without finishing.

    Attributes:
        step: name of the step.
        status: exit status of the child, negative for a signal; None at the time limit.
    """

    def __init__(self, step: str, status: int | None, message: str) -> None:
        super().__init__(message)
        self.step = step
        self.status = status


class CancelledError(FlowError):
    """The run was asked to stop; its children are gone."""


class ExitStatus(IntEnum):
    """Exit status of a stage child; 64-78 as in sysexits.h."""

    DONE = 0
    CRASHED = 1
    USAGE = 64
    BAD_INPUT = 65
    MISSING_INPUT = 66
    LOST = 69
    TRY_AGAIN = 75
    BAD_CONFIG = 78
    OUT_OF_MEMORY = 137
    CANCELLED = 143


KILLED = frozenset({-9, 137})
"""SIGKILL, mostly for want of memory."""

CRASHED_BY_SIGNAL = frozenset({-11, -6, -7, -4, 139, 134})
"""Segmentation fault, abort, bus error, illegal instruction."""

STOPPED = frozenset({-15, -2, 143, 130})
"""SIGTERM or Ctrl-C to the child alone: its machine or its place is wanted back."""

_ROOMS = (
    ("storage.errors", "StorageError"),
    ("translation.errors", "TranslationError"),
    ("detector.errors", "DetectorError"),
    ("oscar_core.errors", "OscarCoreError"),
    ("oscar_core.metrics.errors", "MetricError"),
)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PASSING = {
    errno.EADDRINUSE,
    errno.EAGAIN,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOBUFS,
    errno.ESTALE,
}
"""What a disk, a file server or a busy machine may answer now and not a minute later."""

_FULL_WORDS = re.compile(r"PytorchStreamWriter failed writing|inline_container\.cc.*unexpected pos")
"""What torch.save says where it could not write."""
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR}

_MEMORY_NAMES = {"MemoryError", "OutOfMemoryError", "ArrowMemoryError"}
_MEMORY_WORDS = re.compile(
    r"can't allocate memory|CUDA out of memory|CUDA error: out of memory|std::bad_alloc"
    r"|CUBLAS_STATUS_ALLOC_FAILED",
)
_LOST_NAMES = {
    "ConnectionError",
    "TimeoutError",
    "DistBackendError",  # torch.distributed
    "DistNetworkError",
    "DistStoreError",
    "ActorDiedError",  # ray
    "NodeDiedError",
    "ObjectLostError",
    "RayActorError",
    "WorkerCrashedError",
    "EndpointConnectionError",  # botocore
    "HTTPClientError",
    "BrokenExecutor",  # concurrent.futures: one of the pool's processes died
    "JavaProcessError",
}
_LOST_WORDS = re.compile(
    r"CUDA-capable devices? (is|are) busy or unavailable|no CUDA-capable device is detected"
    r"|GPU is lost|fallen off the bus|uncorrectable (ECC|NVLink) error|device lost"
    r"|CUDA error: (unknown error|the launch timed out|initialization error)"
    r"|NCCL (error|communicator was aborted)|nccl(System|Remote|Unhandled\w*)Error"
    r"|connectFullMesh failed|Connection (closed by|reset by|refused)|Timed out waiting \d+ms"
    r"|Socket closed|DataLoader worker .* (is killed|exited)",
    re.IGNORECASE,
)
"""What torch says by a plain RuntimeError: a device or another process is gone."""

_STOPPED_NAMES = {"TrainingStoppedError", "DetectorStoppedError"}
"""Asked to stop, it wrote a checkpoint; of several processes perhaps only one was asked."""


def user_errors() -> tuple[type[Exception], ...]:
    """Base classes whose message alone is what the user needs; imports no heavy package."""
    bases: list[type[Exception]] = [FlowError]
    for module, name in _ROOMS:
        bases.append(getattr(import_module(module), name))
    return tuple(bases)


def exit_status(error: BaseException) -> ExitStatus:
    """The exit status that tells a parent what to do about an error (orchestration.md, 4)."""
    from storage.errors import MissingFileError

    if is_out_of_memory(error):
        return ExitStatus.OUT_OF_MEMORY
    if any(_is_full(each) for each in _causes(error)):
        return ExitStatus.TRY_AGAIN
    if _names(error) & _STOPPED_NAMES:
        return ExitStatus.CANCELLED
    if any(_names(each) & _LOST_NAMES for each in _causes(error)) or _is_said(_LOST_WORDS, error):
        return ExitStatus.LOST
    if isinstance(error, ConfigError):
        return ExitStatus.BAD_CONFIG
    if isinstance(error, MissingFileError | FileNotFoundError):
        return ExitStatus.MISSING_INPUT
    if isinstance(error, user_errors()):
        return ExitStatus.BAD_INPUT
    if isinstance(error, OSError) and error.errno in _PASSING:
        return ExitStatus.TRY_AGAIN
    if isinstance(error, OSError) and error.errno in _NOT_ALLOWED:
        return ExitStatus.BAD_INPUT
    return ExitStatus.CRASHED


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error, or what it was made of, says that memory did not suffice."""
    return any(
        _names(each) & _MEMORY_NAMES
        or (isinstance(each, OSError) and each.errno == errno.ENOMEM)
        or _is_said(_MEMORY_WORDS, each)
        for each in _causes(error)
    )


def one_line(error: BaseException, folder: Path | None = None) -> str:
    """What happened and how to mend it, on one line.

    Args:
        error: what a stage raised.
        folder: where the stage writes, named when the disk is full.
    """
    if _is_full(error):
        place = getattr(error, "filename", None) or folder or "the run folder"
        said = getattr(error, "strerror", None) or " ".join(str(error).split())
        return (
            f"{place}: no space left to write ({said}); make room and run the same command again, "
            "finished work is kept"
        )
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror or type(error).__name__}"
    text = " ".join(str(error).split())
    if is_out_of_memory(error):
        said = f" ({text[:200]})" if text else ""
        return f"out of memory{said}; lower resources.parallel or the batch size"
    if isinstance(error, user_errors()):
        return text
    return f"{type(error).__name__}: {text}"[:500]


def _is_full(error: BaseException) -> bool:
    """Whether there is no room to write; safetensors and torch have no error number for it."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    if "SafetensorError" in _names(error):
        number = re.search(r"os error (\d+)", str(error))
        return number is not None and int(number[1]) in _FULL
    return _is_said(_FULL_WORDS, error)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was explicitly raised from."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def _names(error: BaseException) -> set[str]:
    """Names of its classes; torch and Ray need not be imported to know theirs."""
    return {each.__name__ for each in type(error).__mro__}


def _is_said(words: re.Pattern[str], error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and words.search(str(error)) is not None
