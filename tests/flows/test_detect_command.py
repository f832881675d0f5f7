"""`oscar-flow detect`: classes that nobody named, what is assumed, what is drawn and refused."""

import errno
import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from detector import load_detector
from detector.published.checkpoint_names import to_published
from flows.commands.detect import DetectorWishes, see_photo
from storage.published.label_maps import label_map_of, write_label_map
from tests.builders_detector import photo, tiny_model
from tests.command_line import oscar

SETTINGS = """
MODEL:
  ROI_BOX_HEAD: {POOLER_RESOLUTION: 6}
  RPN: {POST_NMS_TOP_N_TEST: 12}
INPUT: {MIN_SIZE_TEST: 64, MAX_SIZE_TEST: 96}
"""


def lay_weights(folder: Path) -> Path:
    """Published weights without names, and the settings that the tensors do not tell."""
    model = tiny_model()
    torch.save({"model": to_published(model.state_dict(), model.cell_anchors)}, folder / "n.pth")
    (folder / "n.yaml").write_text(SETTINGS)
    return folder / "n.pth"


def test_classes_without_names_are_called_by_number_and_have_no_tags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(photo()).save(tmp_path / "photo.png")
    asked = ("detect", str(tmp_path / "photo.png"), "--weights", str(lay_weights(tmp_path)))
    drawn = tmp_path / "drawn.png"
    said = oscar(capsys, monkeypatch, *asked, "--save", str(drawn))
    assert said.status == 0
    assert "class " in said.out
    assert "attribute " in said.out
    assert "\u7684" not in said.out  # no word made of two numbers
    assert "name them with --labelmap FILE" in said.out
    assert drawn.is_file()
    names = label_map_of(("dog", "cat", "car", "cup", "bed"), (f"kind {n}" for n in range(1, 9)))
    write_label_map(tmp_path / "names.json", names)
    said = oscar(capsys, monkeypatch, *asked, "--labelmap", str(tmp_path / "names.json"))
    assert said.status == 0
    assert "--labelmap" not in said.out
    assert any(word in said.out for word in "狗猫车杯床")


def test_what_the_weights_do_not_tell_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = lay_weights(tmp_path)
    Image.fromarray(photo()).save(tmp_path / "photo.png")
    said = oscar(
        capsys, monkeypatch, "detect", str(tmp_path / "photo.png"), "--weights", str(weights)
    )
    told = [line for line in said.out.splitlines() if line.startswith("assumed ")]
    assert len(told) == len(set(told)) == len(load_detector(weights).assumed) > 3


@pytest.mark.parametrize(
    ("save", "more", "line"),
    [
        ("photo.png", (), "photo.png: is the photo itself; save the drawing under another name"),
        ("link.png", (), "link.png: is the photo itself; save the drawing under another name"),
        ("none/x.png", (), "none: no such folder; make it, or save elsewhere"),
        ("x.txt", (), "x.txt: not the name of a picture; end it in .png or .jpg"),
        ("x.png", ("--threshold", "nan"), "--threshold nan: no confidence; want a number from 0"),
        ("x.png", ("--threshold", "7"), "--threshold 7: no confidence; want a number from 0 to 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_any_work(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    save: str,
    more: tuple[str, ...],
    line: str,
) -> None:
    Image.fromarray(photo()).save(tmp_path / "photo.png")
    before = (tmp_path / "photo.png").read_bytes()
    (tmp_path / "link.png").symlink_to("photo.png")
    monkeypatch.chdir(tmp_path)
    said = oscar(
        capsys, monkeypatch, "detect", "photo.png", "--weights", "none.pth", "--save", save, *more
    )
    assert (said.status, said.err.startswith(f"error: {line}")) == (2, True)
    assert {each.name for each in tmp_path.iterdir()} == {"photo.png", "link.png"}
    assert (tmp_path / "photo.png").read_bytes() == before


def test_an_older_drawing_stays_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, drawn = lay_weights(tmp_path), tmp_path / "drawn.png"
    Image.fromarray(photo()).save(tmp_path / "photo.png")
    seen = see_photo(tmp_path / "photo.png", run=None, wishes=DetectorWishes(weights=weights))
    drawn.write_bytes(b"older")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space left", str(drawn))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        seen.save(drawn, threshold=0.2, most=3)
    assert drawn.read_bytes() == b"older"
    assert not list(tmp_path.glob(".*"))
