"""Boxes in text files: good rows are kept, the others said to be wrong."""

from pathlib import Path

import pytest

from storage.annotations import yolo_boxes
from storage.errors import AnnotationError, MissingFileError
from storage.records import Annotations


def reasons(found: Annotations) -> list[str]:
    return [dropped.reason for dropped in found.quarantined]


def make_yolo(folder: Path, lines: bytes, classes: bytes = b"dog\ncat\n") -> dict[str, Path]:
    from PIL import Image

    for name in ("labels", "photos"):
        (folder / name).mkdir()
    Image.new("RGB", (20, 10)).save(folder / "photos" / "a.jpg")
    (folder / "photos" / "broken.jpg").touch()
    for name in ("a", "broken", "other"):
        (folder / "labels" / f"{name}.txt").write_bytes(lines)
    (folder / "classes.txt").write_bytes(classes)
    return {
        "labels": folder / "labels",
        "photos": folder / "photos",
        "classes": folder / "classes.txt",
    }


def test_yolo_boxes(tmp_path: Path) -> None:
    lines = b"1 0.5 0.5 0.5 0.4\r\n\n2 0.5 0.5 0.1 0.1\n1 0.5\n0 0.5 0.5 0 0.1\nx\n0 1 0.5 1 1\n"
    found = yolo_boxes.read(**make_yolo(tmp_path, lines))
    (image,) = found.objects
    assert (image.image_id, image.class_names) == ("coco/a", ("cat", "dog"))
    assert image.boxes.tolist() == [[5, 3, 14, 6], [10, 0, 19, 9]]
    assert reasons(found) == [
        "unknown-category",
        "bad-row",
        "bad-box",
        "bad-row",
        "box-clipped",
        "empty-file",
        "unknown-image",
    ]


def test_yolo_files_that_are_empty_or_no_text(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (image,) = yolo_boxes.read(**make_yolo(tmp_path / "1", b"")).objects
    assert len(image.boxes) == 0
    (tmp_path / "2").mkdir()
    found = yolo_boxes.read(**make_yolo(tmp_path / "2", b"\xff\xfe"))
    assert found.objects == ()
    assert reasons(found)[0] == "not-utf8"


@pytest.mark.parametrize(
    ("classes", "message"), [(b"dog\ndog\n", "occurs twice"), (b"", "the file is empty")]
)
def test_yolo_classes_must_be_a_list(tmp_path: Path, classes: bytes, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        yolo_boxes.read(**make_yolo(tmp_path, b"", classes))


def test_yolo_folders_must_hold_something(tmp_path: Path) -> None:
    files = make_yolo(tmp_path, b"")
    with pytest.raises(MissingFileError, match="no text files"):
        yolo_boxes.read(files["photos"], photos=files["photos"], classes=files["classes"])
    with pytest.raises(MissingFileError, match="no such folder"):
        yolo_boxes.read(tmp_path / "none", photos=files["photos"], classes=files["classes"])
