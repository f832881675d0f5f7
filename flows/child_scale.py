"""What stage code may ask about the child it runs in: its scale, and whether it should stop.

Outside a child everything answers as for one process that nobody stops.
"""

import threading

from flows.scale import LOCAL, Scale

_scale: Scale = LOCAL
_has_asked = threading.Event()

stop_requested = threading.Event()
"""Set by SIGTERM in a child."""


def current_scale() -> Scale:
    """On how many processes and machines the running stage works."""
    return _scale


def set_scale(scale: Scale) -> None:
    """Called by the child before the stage runs."""
    global _scale
    _scale = scale


def should_stop() -> bool:
    """Whether SIGTERM came; a loop that asks between two steps is given the time to end well.

    A stage that never asked is ended by SIGTERM where it stands. One that finds True saves its
    checkpoint and raises whatever it likes: the child then leaves with exit status 143.
    """
    _has_asked.set()
    return stop_requested.is_set()


def is_heeded() -> bool:
    """Whether the running stage asks `should_stop`."""
    return _has_asked.is_set()
