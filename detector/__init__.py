"""Pixels to regions: `from detector import load_detector`.

The names below are fetched when they are asked for, so `import detector` does not import torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detector.load import Detector, load_detector

__all__ = ["Detector", "load_detector"]


def __getattr__(name: str) -> Any:
    """A public name, from the module that has it."""
    if name in __all__:
        from importlib import import_module

        return getattr(import_module("detector.load"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
