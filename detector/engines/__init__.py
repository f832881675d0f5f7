"""Where a trained detector is made ready for the machine that is to run it."""

from detector.engine import Engine, Precision
from detector.model import AttributeRCNN


def prepare(model: AttributeRCNN, precision: Precision = "exact", *, device: str = "cpu") -> Engine:
    """A detector made ready for many photos; the model stays as it is.

    Args:
        model: In evaluation mode.
        precision: "exact": float32, same regions as the model itself up to rounding; "fast": what
            the machine computes fastest.
        device: Where the network computes.
    """
    from detector.engines.exact import prepare_exact

    return prepare_exact(model, device)
