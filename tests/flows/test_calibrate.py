"""`oscar-flow calibrate` leaves ranges beside a detector, and the fast engine takes them."""

import errno
from pathlib import Path

import pytest
from PIL import Image

from detector.checkpoints import read_detector, save_detector
from detector.engines import prepare
from flows.commands.calibrate import calibrate_detector
from flows.errors import FlowError
from storage.published.label_maps import BACKGROUND, NO_ATTRIBUTE, LabelMap
from tests.builders_detector import photo, tiny_model
from tests.builders_storage import bytes_of


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
    said: list[str] = []
    lines = calibrate_detector(detector, photos, most=2, tell=said.append)
    assert said[:2] == ["measuring 2 photos", "seen in float32: 1 of 2 photos"]
    loaded = read_detector(detector)
    assert loaded.ranges is not None
    assert loaded.ranges.num_photos == 2
    assert loaded.ranges.digest in lines[0]
    engine = prepare(loaded.model, "fast", engine="openvino-int8", ranges=loaded.ranges)
    assert engine.describe().startswith(f"fast:openvino-int8-{loaded.ranges.digest}")


def test_a_folder_without_photos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match="no photo"):
        calibrate_detector(tmp_path, tmp_path, most=2)


def test_a_photo_does_not_judge_itself(tmp_path: Path) -> None:
    detector, photos = small_detector(tmp_path / "detector"), tmp_path / "photos"
    photos.mkdir()
    for number in range(2):
        Image.fromarray(photo(seed=number)).save(photos / f"{number}.png")
    with pytest.raises(FlowError, match=r"1 of 1 photos can be read; .* another to judge"):
        calibrate_detector(detector, photos, most=1)
    assert read_detector(detector).ranges is None


def test_a_folder_that_cannot_be_written_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector, photos = small_detector(tmp_path / "detector"), tmp_path / "photos"
    photos.mkdir()
    for number in range(2):
        Image.fromarray(photo(seed=number)).save(photos / f"{number}.png")

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)  # root may write everywhere
    said: list[str] = []
    with pytest.raises(OSError, match=r"Permission denied: '.*detector\.ranges\.json'"):
        calibrate_detector(detector, photos, most=2, tell=said.append)
    assert said == []


def test_damaged_photos_are_left_out_and_named(tmp_path: Path) -> None:
    pytest.importorskip("detector.engines.quiet_openvino", exc_type=ImportError)
    detector, photos = small_detector(tmp_path / "detector"), tmp_path / "photos"
    photos.mkdir()
    (photos / "0.jpg").write_bytes(b"\xff\xd8 cut")
    with pytest.raises(FlowError, match=r"0 of 1 photos can be read; .*0\.jpg"):
        calibrate_detector(detector, photos, most=3)
    for number in (1, 2):
        Image.fromarray(photo(seed=number)).save(photos / f"{number}.png")
    lines = calibrate_detector(detector, photos, most=3)
    assert lines[0].startswith("ranges ")
    assert " of 2 photos in " in lines[0]
    assert lines[-2] == "1 photos could not be read and were left out:"
    assert str(photos / "0.jpg") in lines[-1]


def test_what_is_stopped_leaves_the_ranges_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("detector.engines.quiet_openvino", exc_type=ImportError)
    detector, photos = small_detector(tmp_path / "detector"), tmp_path / "photos"
    photos.mkdir()
    for number in range(2):
        Image.fromarray(photo(seed=number)).save(photos / f"{number}.png")
    calibrate_detector(detector, photos, most=2)
    before = bytes_of(detector)

    def stop(path: Path, text: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", stop)  # in the middle of writing
    with pytest.raises(KeyboardInterrupt):
        calibrate_detector(detector, photos, most=2)
    assert bytes_of(detector) == before
