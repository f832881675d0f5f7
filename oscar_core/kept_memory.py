"""Freed memory that stays with the process.

A training allocates and frees the same gigabytes at every update. glibc gives large pieces back to
the system and asks for them again, and each page then costs a fault and is filled with zeros.
"""

import ctypes
import logging
import sys

_MMAP_MAX, _TRIM_THRESHOLD, _TOP_PAD = -4, -1, -2  # malloc.h
_NEVER = -1
_GROWS_BY = 1 << 26  # bytes

_log = logging.getLogger(__name__)


def keep_freed_memory() -> bool:
    """From now on keep what is freed, for the next allocation; no effect on any number.

    Returns:
        Whether the C library could be told; False where it is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: _NEVER, _TOP_PAD: _GROWS_BY}
    is_told = {mallopt(name, value) for name, value in settings.items()} == {1}
    _log.debug("freed memory is kept: %s", is_told)
    return is_told


def return_freed_memory() -> None:
    """Back to glibc's own ways; what is free goes back to the system at once."""
    library = ctypes.CDLL(None)
    for name, value in {_MMAP_MAX: 1 << 16, _TRIM_THRESHOLD: 1 << 17, _TOP_PAD: 1 << 17}.items():
        library.mallopt(name, value)
    library.malloc_trim(0)
