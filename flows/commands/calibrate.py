"""Measures what 8-bit arithmetic needs to know of a detector: `oscar-flow calibrate`."""

from collections.abc import Callable, Sequence
from pathlib import Path

from flows.errors import FlowError
from storage.artifacts import atomic_path
from storage.errors import UnreadableImageError
from storage.images import decode, list_images
from storage.records import DecodedImage, ImageSource

_LEAST_PHOTOS = 2  # one to measure on, another to judge: a photo that judges itself always agrees
_NUM_NAMED = 5  # photos that could not be read


def calibrate_detector(
    weights: Path, photos: Path, *, most: int, tell: Callable[[str], None] = lambda line: None
) -> list[str]:
    """Measure ranges on photos of a folder and write them beside the detector.

    Args:
        weights: A detector, folder or published file.
        photos: A folder of photos like those to come; every so-manieth is taken, damaged ones are
            left out.
        most: Number of photos.
        tell: Told what is done next, a line each; all of it may take minutes.

    Returns:
        What was found, in lines.

    Raises:
        FlowError: There are too few photos that can be read.
        DetectorError: What was named is no detector.
        StorageError: The folder or the label map cannot be read.
        OSError: The ranges cannot be written there; said before anything is measured.
    """
    from detector.checkpoints import read_detector
    from detector.engines.calibrate import calibrate
    from detector.engines.fast import choose
    from detector.engines.ranges import LEAST_LIKENESS, ranges_path, write_ranges

    sources, _ = list_images(photos, "")
    if not sources:
        raise FlowError(f"{photos}: no photo in it; name a folder of pictures")
    loaded = read_detector(weights)
    decoded, damaged = _read(sources[:: max(1, len(sources) // most)][:most])
    if len(decoded) < _LEAST_PHOTOS:
        why = f"; {damaged[0]}" if damaged else ""
        raise FlowError(
            f"{photos}: {len(decoded)} of {len(decoded) + len(damaged)} photos can be read; "
            f"one to measure on and another to judge are the least, eight are better{why}"
        )
    place = ranges_path(weights)
    with atomic_path(place) as partial:
        tell(f"measuring {len(decoded)} photos")
        ranges = calibrate(loaded.model, decoded, report=tell)
        write_ranges(partial, ranges)
    verdict = "enough" if ranges.likeness >= LEAST_LIKENESS else "not enough"
    lines = [
        f"ranges {ranges.digest} of {len(decoded)} photos in {place}",
        f"{ranges.share:.0%} of the multiplications in 8 bits; likeness of features "
        f"{ranges.likeness:.5f}: {verdict} ({LEAST_LIKENESS})",
        f"`precision: fast` on a CPU now takes {choose('cpu', ranges)}",
    ]
    if damaged:
        lines.append(f"{len(damaged)} photos could not be read and were left out:")
        lines += [f"  {said}" for said in damaged[:_NUM_NAMED]]
        lines += ["  ..."] if len(damaged) > _NUM_NAMED else []
    return lines


def _read(sources: Sequence[ImageSource]) -> tuple[list[DecodedImage], list[str]]:
    """The photos that can be read, and what is wrong with the others."""
    decoded, damaged = [], []
    for source in sources:
        try:
            decoded.append(decode(source))
        except UnreadableImageError as error:
            damaged.append(str(error))
    return decoded, damaged
