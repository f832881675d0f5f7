"""What can go wrong with the order of things, and which errors are the user's matter.

A child process tells its parent the kind of trouble by its exit status (`ExitStatus`, after
sysexits.h); a parent tells the user in one line.
"""

import errno
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
    TRY_AGAIN = 75
    BAD_CONFIG = 78
    OUT_OF_MEMORY = 137
    CANCELLED = 143


FATAL = frozenset(
    {
        ExitStatus.USAGE,
        ExitStatus.BAD_INPUT,
        ExitStatus.MISSING_INPUT,
        ExitStatus.BAD_CONFIG,
        ExitStatus.CRASHED,
    }
)
"""Trying again would end the same way."""

KILLED = frozenset({-9, 137})
"""SIGKILL, mostly for want of memory: once more, with a smaller batch where that is harmless."""

CRASHED_BY_SIGNAL = frozenset({-11, -6, -7, -4, 139, 134})
"""Segmentation fault, abort, bus error, illegal instruction: once more."""

STOPPED = frozenset({-15, -2, 143, 130})
"""SIGTERM or Ctrl-C: somebody meant it."""

_ROOMS = (
    ("storage.errors", "StorageError"),
    ("translation.errors", "TranslationError"),
    ("detector.errors", "DetectorError"),
    ("oscar_core.errors", "OscarCoreError"),
    ("oscar_core.metrics.errors", "MetricError"),
)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EADDRINUSE}


def user_errors() -> tuple[type[Exception], ...]:
    """Base classes whose message alone is what the user needs; imports no heavy package."""
    bases: list[type[Exception]] = [FlowError]
    for module, name in _ROOMS:
        bases.append(getattr(import_module(module), name))
    return tuple(bases)


def exit_status(error: BaseException) -> ExitStatus:
    """The exit status that tells a parent what to do about an error (orchestration.md, 4)."""
    from storage.errors import MissingFileError

    if isinstance(error, ConfigError):
        return ExitStatus.BAD_CONFIG
    if isinstance(error, MissingFileError | FileNotFoundError):
        return ExitStatus.MISSING_INPUT
    if isinstance(error, user_errors()):
        return ExitStatus.BAD_INPUT
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return ExitStatus.OUT_OF_MEMORY
    if isinstance(error, OSError) and error.errno in _FULL:
        return ExitStatus.TRY_AGAIN
    if isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError):
        return ExitStatus.BAD_INPUT
    return ExitStatus.CRASHED


def one_line(error: BaseException, folder: Path | None = None) -> str:
    """What happened and how to mend it, on one line.

    Args:
        error: what a stage raised.
        folder: where the stage writes, named when the disk is full.
    """
    if isinstance(error, OSError) and error.errno in _FULL - {errno.EADDRINUSE}:
        place = error.filename or folder or "the run folder"
        return (
            f"{place}: no space left to write ({error.strerror}); make room and run the same "
            "command again, finished work is kept"
        )
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror or type(error).__name__}"
    if isinstance(error, MemoryError):
        return "out of memory; lower resources.parallel or the batch size"
    text = " ".join(str(error).split())
    if isinstance(error, user_errors()):
        return text
    return f"{type(error).__name__}: {text}"[:500]
