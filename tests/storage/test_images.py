import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage.errors import MissingFileError, StorageError, UnreadableImageError
from storage.images import decode, list_images
from storage.records import ImageSource

NOBODY = 65_534


def read(path: Path, **limits: int) -> np.ndarray:
    return decode(ImageSource(image_id="x", path=path), **limits).pixels


def save(path: Path, mode: str = "RGB", size: tuple[int, int] = (4, 3), colour: object = 9) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)  # type: ignore[arg-type]
    return path


def test_ids_are_namespace_and_path_in_the_order_of_ids(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.PNG", "sub/a.jpeg", "note.txt", ".hidden.jpg", ".git/a.jpg"):
        save(tmp_path / name) if "txt" not in name else (tmp_path / name).touch()
    sources, quarantined = list_images(tmp_path, "mine")
    assert [source.image_id for source in sources] == ["mine/a", "mine/b", "mine/sub/a"]
    assert quarantined == []
    assert [source.image_id for source in list_images(tmp_path, "")[0]] == ["a", "b", "sub/a"]


def test_an_empty_folder_has_no_photos(tmp_path: Path) -> None:
    assert list_images(tmp_path, "x") == ([], [])


def test_two_photos_of_one_name_keep_the_first(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg")
    save(tmp_path / "a.png")
    sources, (dropped,) = list_images(tmp_path, "x")
    assert [source.path.name for source in sources] == ["a.jpg"]
    assert (dropped.reason, dropped.image_id) == ("duplicate-id", "x/a")


def test_a_name_that_is_not_utf8_and_a_folder_named_like_a_photo(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / os.fsdecode(b"\xc4\xe3.jpg")).touch()
    sources, quarantined = list_images(tmp_path, "x")
    assert sources == []
    assert sorted(dropped.reason for dropped in quarantined) == ["name-not-utf8", "not-a-file"]


def test_no_folder_and_a_file_for_a_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such folder"):
        list_images(tmp_path / "none", "x")
    with pytest.raises(StorageError, match="a file, not a folder"):
        list_images(save(tmp_path / "a.jpg"), "x")


@contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """Without the rights of root, who may read every folder."""
    if os.geteuid() != 0:
        yield
        return
    os.chown(folder, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_an_unreadable_folder_is_quarantined_or_an_error() -> None:
    with tempfile.TemporaryDirectory() as name, as_nobody(Path(name)):
        save(Path(name, "a.jpg"))
        closed = Path(name, "closed")
        closed.mkdir(mode=0)
        sources, (dropped,) = list_images(Path(name), "x")
        assert [source.image_id for source in sources] == ["x/a"]
        assert dropped.reason == "unreadable-folder"
        with pytest.raises(StorageError, match=r"closed: Permission denied; make the folder"):
            list_images(closed, "x")


def test_an_unreadable_photo_says_so() -> None:
    with tempfile.TemporaryDirectory() as name, as_nobody(Path(name)):
        path = save(Path(name, "a.jpg"))
        path.chmod(0)
        with pytest.raises(UnreadableImageError, match="Permission denied") as caught:
            read(path)
        assert caught.value.reason == "unreadable"


@pytest.mark.parametrize(
    ("mode", "colour", "wanted"),
    [
        ("L", 7, (7, 7, 7)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (200, 100, 0, 0), (255, 255, 255)),
        ("RGBA", (200, 100, 0, 255), (200, 100, 0)),
        ("LA", (100, 255), (100, 100, 100)),
        ("I;16", 65535, (255, 255, 255)),
        ("I;16", 128, (0, 0, 0)),
        ("I;16", 257 * 40, (40, 40, 40)),
    ],
)
def test_every_mode_becomes_rgb(
    tmp_path: Path, mode: str, colour: object, wanted: tuple[int, ...]
) -> None:
    pixels = read(save(tmp_path / "a.png", mode, colour=colour))
    assert pixels.shape == (3, 4, 3)
    assert pixels.dtype == np.uint8
    assert pixels[0, 0].tolist() == list(wanted)


def test_pixels_can_be_written_to(tmp_path: Path) -> None:
    read(save(tmp_path / "a.png"))[:] = 1
    read(save(tmp_path / "b.png", "I;16"))[:] = 1


def test_orientation_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (5, 2)).save(tmp_path / "a.jpg", exif=exif)
    assert read(tmp_path / "a.jpg").shape == (2, 5, 3)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_pixels": 11}, "too-many-pixels"),
        ({"min_side": 4}, "too-small"),
        ({"max_bytes": 10}, "too-many-bytes"),
    ],
)
def test_bounds_are_kept(tmp_path: Path, limits: dict[str, int], reason: str) -> None:
    path = save(tmp_path / "a.png")
    assert read(path, max_pixels=12, min_side=3, max_bytes=500).shape == (3, 4, 3)
    with pytest.raises(UnreadableImageError) as caught:
        read(path, **limits)
    assert caught.value.reason == reason
    assert str(path) in str(caught.value)


def test_a_side_of_20000_pixels_is_a_matter_of_the_bound(tmp_path: Path) -> None:
    path = save(tmp_path / "long.png", "L", (20_000, 2))
    assert read(path).shape == (2, 20_000, 3)
    large = save(tmp_path / "large.png", "1", (20_000, 2_501))
    with pytest.raises(UnreadableImageError, match=r"20000x2501 has more than 50000000 pixels"):
        read(large)


def test_what_is_no_photo_says_why(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "half.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    reasons = {}
    for name in ("empty", "text", "half", "missing"):
        with pytest.raises(UnreadableImageError) as caught:
            read(tmp_path / f"{name}.jpg")
        reasons[name] = caught.value.reason
    assert reasons == {
        "empty": "empty-file",
        "text": "not-an-image",
        "half": "damaged-header",
        "missing": "unreadable",
    }
    with pytest.raises(UnreadableImageError, match="not a regular file"):
        read(tmp_path)


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    from hashlib import sha256

    path = save(tmp_path / "a.png")
    image = decode(ImageSource(image_id="a", path=path))
    assert image.content_hash == sha256(path.read_bytes()).hexdigest()
