"""`oscar-flow convert` of detectors: every layout leads to the same detector."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from detector.checkpoints import read_detector, save_detector
from detector.config import RegionRules
from detector.errors import CheckpointError, DetectorConfigError
from detector.model import AttributeRCNN
from flows.commands.convert import Wishes, convert
from flows.commands.convert_detector import Beside
from flows.errors import FlowError
from storage.published.label_maps import LabelMap, label_map_of, write_label_map
from tests.builders_detector import tiny_model
from tests.command_line import oscar

LABELS = label_map_of((f"thing {n}" for n in range(1, 6)), (f"kind {n}" for n in range(1, 9)))
FILE = "detector.pth"


def known_there() -> AttributeRCNN:
    """A detector that the other programs can build, with settings that no tensor tells."""
    rules = RegionRules(filter=0, score_threshold=0.3, max_regions=30)
    return tiny_model(
        blocks=(3, 4, 6),
        res5_blocks=3,
        stride_in_1x1=True,
        min_size=96,
        max_size=160,
        regions=rules,
    )


def ours(folder: Path, model: AttributeRCNN | None = None) -> Path:
    save_detector(folder, model or known_there(), LABELS)
    return folder


@pytest.mark.parametrize("layout", ["published", "detectron2"])
def test_a_detector_comes_back_from_every_layout(tmp_path: Path, layout: str) -> None:
    source = ours(tmp_path / "ours")
    convert(source, tmp_path / "there", to=layout, wishes=Wishes())  # type: ignore[arg-type]  # a text
    convert(tmp_path / "there", tmp_path / "back", to="ours", wishes=Wishes())
    wanted, found = read_detector(source), read_detector(tmp_path / "back")
    assert found.model.config == wanted.model.config
    assert found.label_map == wanted.label_map
    for name, tensor in wanted.model.state_dict().items():
        back = found.model.state_dict()[name]
        if layout == "detectron2" and name.startswith("box_head.box_deltas."):
            tensor, back = tensor[4:], back[4:]  # it has no box of the background
        torch.testing.assert_close(back, tensor, rtol=1e-6, atol=0)


def test_what_its_tensors_do_not_tell_is_told(tmp_path: Path) -> None:
    convert(ours(tmp_path / "ours"), tmp_path / "there", to="published", wishes=Wishes())
    (tmp_path / "there" / "detector.yaml").rename(tmp_path / "elsewhere.yaml")
    bare = tmp_path / "there" / FILE
    lines = convert(bare, tmp_path / "guessed", to="ours", wishes=Wishes())
    assert "its tensors do not tell, so assumed:" in lines
    assert any(line.startswith("  stride_in_1x1 = False") for line in lines)
    beside = Beside(settings=tmp_path / "elsewhere.yaml")
    lines = convert(bare, tmp_path / "told", to="ours", wishes=Wishes(beside=beside))
    assert not any("stride_in_1x1" in line for line in lines)
    assert read_detector(tmp_path / "told").model.config.stride_in_1x1


def test_what_detectron2_has_no_place_for_is_told(tmp_path: Path) -> None:
    model = known_there()
    lines = convert(
        ours(tmp_path / "ours", model), tmp_path / "a", to="detectron2", wishes=Wishes()
    )
    assert any("box deltas of the background" in line for line in lines)
    with torch.no_grad():
        model.box_head.box_deltas.weight[:4] = 0
        model.box_head.box_deltas.bias[:4] = 0
    source = ours(tmp_path / "without", model)
    lines = convert(source, tmp_path / "b", to="detectron2", wishes=Wishes())
    assert not any("background" in line for line in lines)
    convert(tmp_path / "b" / FILE, tmp_path / "back", to="ours", wishes=Wishes())
    assert read_detector(tmp_path / "back").fingerprint == read_detector(source).fingerprint


def test_names_may_be_given(tmp_path: Path) -> None:
    convert(ours(tmp_path / "ours"), tmp_path / "there", to="detectron2", wishes=Wishes())
    other = label_map_of((f"other {n}" for n in range(1, 6)), LABELS.attribute_names[1:])
    write_label_map(tmp_path / "names.json", other)
    beside = Beside(label_map=tmp_path / "names.json")
    convert(tmp_path / "there" / FILE, tmp_path / "out", to="ours", wishes=Wishes(beside=beside))
    found: LabelMap = read_detector(tmp_path / "out").label_map
    assert found.class_names[1] == "other 1"


def test_a_detector_without_names_is_named_later(tmp_path: Path) -> None:
    convert(ours(tmp_path / "ours"), tmp_path / "there", to="published", wishes=Wishes())
    (tmp_path / "there" / "labelmap.json").unlink()
    lines = convert(tmp_path / "there" / FILE, tmp_path / "bare", to="ours", wishes=Wishes())
    assert any("numbers stand in; give a label map" in line for line in lines)
    assert lines[-1].endswith(f"oscar-flow convert {tmp_path / 'bare'} NAMED --labelmap FILE")
    assert "detector_weights" not in lines[-1]
    write_label_map(tmp_path / "names.json", LABELS)
    wishes = Wishes(beside=Beside(label_map=tmp_path / "names.json"))
    convert(tmp_path / "bare", tmp_path / "named", to="ours", wishes=wishes)
    found, wanted = read_detector(tmp_path / "named"), read_detector(tmp_path / "ours")
    assert found.label_map == LABELS
    assert found.fingerprint == wanted.fingerprint
    with pytest.raises(CheckpointError, match="has its own label map"):
        convert(tmp_path / "named", tmp_path / "again", to="ours", wishes=wishes)


def test_what_the_other_program_cannot_build_is_refused(tmp_path: Path) -> None:
    source = ours(tmp_path / "ours", tiny_model())
    for layout in ("published", "detectron2"):
        with pytest.raises(
            DetectorConfigError, match=r"blocks \(1, 1, 1\) \(there: .*; res5|res5_bl"
        ):
            convert(source, tmp_path / "out", to=layout, wishes=Wishes())  # type: ignore[arg-type]  # a text
        assert not (tmp_path / "out").exists()
    with pytest.raises(FlowError, match="no such layout"):
        convert(source, tmp_path / "out", to="hub", wishes=Wishes())
    for name in ("gone.pth", "nowhere"):
        with pytest.raises(FlowError, match=f"{name}: no file and no folder there"):
            convert(tmp_path / name, tmp_path / "out", to="detectron2", wishes=Wishes())


def test_colours_that_the_original_does_not_know_are_refused(tmp_path: Path) -> None:
    model = known_there()
    model.config = replace(model.config, channel_order="rgb")
    with pytest.raises(DetectorConfigError, match=r"channel_order 'rgb' \(there: 'bgr'\)"):
        convert(ours(tmp_path / "ours", model), tmp_path / "out", to="published", wishes=Wishes())
    convert(tmp_path / "ours", tmp_path / "there", to="detectron2", wishes=Wishes())
    assert read_detector(tmp_path / "there").model.config == model.config


def test_attributes_of_unrefined_boxes_are_told_to_be_lost(tmp_path: Path) -> None:
    model = known_there()
    rules = RegionRules(regress_boxes=True, pool_attributes_again=False)
    model.config = replace(model.config, regions=rules)
    lines = convert(ours(tmp_path / "ours", model), tmp_path / "a", to="published", wishes=Wishes())
    assert any("left out: pool_attributes_again" in line for line in lines)


def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, there = str(ours(tmp_path / "ours")), str(tmp_path / "there")
    said = oscar(capsys, monkeypatch, "convert", source, there, "--to", "detectron2")
    assert said.status == 0
    assert "written as a detector (detectron2)" in said.out
    damaged = tmp_path / "damaged.pkl"
    damaged.write_bytes(b"\x80\x02cos\nsystem\n(U\x04exittR.")
    said = oscar(capsys, monkeypatch, "convert", str(damaged), str(tmp_path / "x"))
    assert said.status == 2
    assert "it asks for os.system" in said.err
    assert said.err.count("\n") == 1
