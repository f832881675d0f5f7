"""A stage that says which device it was given, and whether that one is taken while it works."""

import os
import threading
from contextlib import suppress

from flows.devices import VISIBLE, claim_devices
from flows.errors import CancelledError
from flows.progress import SILENT, Progress
from tests.fake_stage import Config, Inputs, Outputs, Summary

VERSION = 1
USES_DEVICE = True

__all__ = ["Config", "Inputs", "Outputs", "Summary"]


def run(config: Config, inputs: Inputs, outputs: Outputs, progress: Progress = SILENT) -> Summary:
    """Writes the device's name, once another claim of it has to wait."""
    stop = threading.Event()
    with suppress(CancelledError), claim_devices(1, lambda line: stop.set(), stop):
        return Summary(num_out=0)
    outputs.text.write_text(os.environ[VISIBLE])
    return Summary(num_out=1)
