"""Measures what 8-bit arithmetic needs to know of a detector: `oscar-flow calibrate`."""

from pathlib import Path

from flows.errors import FlowError


def calibrate_detector(weights: Path, photos: Path, *, most: int) -> list[str]:
    """Measure ranges on photos of a folder and write them beside the detector.

    Args:
        weights: A detector, folder or published file.
        photos: A folder of photos like those to come; every so-manieth is taken.
        most: Number of photos.

    Returns:
        What was found, in lines.

    Raises:
        FlowError: There is no photo.
        DetectorError: What was named is no detector.
        StorageError: A photo or the label map cannot be read.
    """
    from detector.checkpoints import read_detector
    from detector.engines.calibrate import calibrate
    from detector.engines.fast import choose
    from detector.engines.ranges import LEAST_LIKENESS, ranges_path, write_ranges
    from storage.images import decode, list_images

    sources, _ = list_images(photos, "calibration")
    if not sources:
        raise FlowError(f"{photos}: no photo in it; name a folder of pictures")
    chosen = sources[:: max(1, len(sources) // most)][:most]
    loaded = read_detector(weights)
    ranges = calibrate(loaded.model, [decode(source) for source in chosen])
    place = ranges_path(weights)
    write_ranges(place, ranges)
    verdict = "enough" if ranges.likeness >= LEAST_LIKENESS else "not enough"
    return [
        f"ranges {ranges.digest} of {len(chosen)} photos in {place}",
        f"{ranges.share:.0%} of the multiplications in 8 bits; likeness of features "
        f"{ranges.likeness:.5f}: {verdict} ({LEAST_LIKENESS})",
        f"`precision: fast` on a CPU now takes {choose('cpu', ranges)}",
    ]
