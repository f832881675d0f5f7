"""`oscar-flow calibrate` leaves ranges beside a detector, and the fast engine takes them."""

from pathlib import Path

import pytest
from PIL import Image

from detector.checkpoints import read_detector, save_detector
from detector.engines import prepare
from flows.commands.calibrate import calibrate_detector
from flows.errors import FlowError
from storage.published.label_maps import BACKGROUND, NO_ATTRIBUTE, LabelMap
from tests.builders_detector import photo, tiny_model


def small_detector(folder: Path) -> Path:
    model = tiny_model()
    names = LabelMap(
        class_names=(BACKGROUND, *(f"class {number}" for number in range(1, 6))),
        attribute_names=(NO_ATTRIBUTE, *(f"kind {number}" for number in range(1, 9))),
    )
    save_detector(folder, model, names)
    return folder


def test_ranges_lie_beside_the_detector_and_are_taken(tmp_path: Path) -> None:
    pytest.importorskip("detector.engines.quiet_openvino", exc_type=ImportError)
    detector, photos = small_detector(tmp_path / "detector"), tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        Image.fromarray(photo(seed=number)).save(photos / f"{number}.png")
    assert read_detector(detector).ranges is None
    lines = calibrate_detector(detector, photos, most=2)
    loaded = read_detector(detector)
    assert loaded.ranges is not None
    assert loaded.ranges.num_photos == 2
    assert loaded.ranges.digest in lines[0]
    engine = prepare(loaded.model, "fast", engine="openvino-int8", ranges=loaded.ranges)
    assert engine.describe() == f"fast:openvino-int8-{loaded.ranges.digest}"


def test_a_folder_without_photos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match="no photo"):
        calibrate_detector(tmp_path, tmp_path, most=2)
