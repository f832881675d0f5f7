"""Where a trained detector is made ready for the machine that is to run it."""

from typing import TYPE_CHECKING

from detector.engine import Engine, Precision
from detector.model import AttributeRCNN

if TYPE_CHECKING:
    from detector.engines.ranges import Ranges


def prepare(
    model: AttributeRCNN,
    precision: Precision = "exact",
    *,
    device: str = "cpu",
    engine: str | None = None,
    ranges: "Ranges | None" = None,
    compile_with: str | None = None,
) -> Engine:
    """A detector made ready for many photos; the model stays as it is.

    Args:
        model: In evaluation mode.
        precision: "exact": float32, same regions as the model itself up to rounding; "fast": what
            the machine computes fastest.
        device: Where the network computes.
        engine: Of the fast ones (`detector.engines.fast.FAST_ENGINES`); None takes the fastest.
        ranges: For 8-bit arithmetic, from `detector.engines.calibrate`; only for "fast".
        compile_with: A backend of `torch.compile`, for engines of torch's own operators
            (`detector.engines.torch_engine`); None compiles nothing.

    Raises:
        CheckpointError: The ranges belong to other weights.
        DetectorConfigError: That engine does not exist or cannot run here.
    """
    if precision == "fast":
        from detector.engines.fast import prepare_fast

        return prepare_fast(model, device, engine=engine, ranges=ranges, compile_with=compile_with)
    from detector.engines.exact import prepare_exact

    return prepare_exact(model, device, compile_with=compile_with)
