"""OpenVINO without its telemetry; the only module that imports it.

`import openvino` loads the package `openvino_telemetry`, which sends messages over the network.
Where that package is missing OpenVINO takes a stub of its own, which does nothing; so it is
declared missing first.
"""

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # Python's own sign

import openvino  # noqa: E402  # after the line above
from openvino import opset13 as ops  # noqa: E402  # the same

__all__ = ["openvino", "ops"]
