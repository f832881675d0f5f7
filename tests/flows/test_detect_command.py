"""`oscar-flow detect` of detectors whose classes nobody named."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from detector.published.checkpoint_names import to_published
from storage.published.label_maps import label_map_of, write_label_map
from tests.builders_detector import photo, tiny_model
from tests.command_line import oscar

SETTINGS = """
MODEL:
  ROI_BOX_HEAD: {POOLER_RESOLUTION: 6}
  RPN: {POST_NMS_TOP_N_TEST: 12}
INPUT: {MIN_SIZE_TEST: 64, MAX_SIZE_TEST: 96}
"""


def test_classes_without_names_are_called_by_number_and_have_no_tags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model()
    torch.save({"model": to_published(model.state_dict(), model.cell_anchors)}, tmp_path / "n.pth")
    (tmp_path / "n.yaml").write_text(SETTINGS)
    Image.fromarray(photo()).save(tmp_path / "photo.png")
    asked = ("detect", str(tmp_path / "photo.png"), "--weights", str(tmp_path / "n.pth"))
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
