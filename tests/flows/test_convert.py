"""`oscar-flow convert`: published to ours, ours to published, what is refused."""

import json
from pathlib import Path

import pytest
import torch

from detector.checkpoints import save_detector
from flows.commands.convert import Wishes, convert
from flows.errors import FlowError
from oscar_core.encoder import OscarEncoder, OscarPreTrained
from oscar_core.errors import PackingError, WeightsError
from oscar_core.heads import AnswerHead, HeadKind
from oscar_core.model_folder import SETTINGS, read_model
from oscar_core.models import CaptionModel, ClassifierModel, PairModel, PretrainingModel
from oscar_core.published.weights_file import PICKLED, read_tensors
from oscar_core.published.writing import write_published
from oscar_core.regions import check_geometry
from storage.library import Annotations, Library
from storage.published.label_maps import label_map_of
from tests.builders_core import make_config, make_tokenizer
from tests.builders_detector import tiny_model
from tests.command_line import oscar

RECORDED = {
    "img_feature_type": "faster_r-cnn",
    "label_smoothing": 0.1,
    "drop_worst_ratio": 0.2,
    "drop_worst_after": 20000,
    "loss_type": "sfmx",
    "num_labels": 2,
    "pruned_heads": {},
    "num_attention_heads": 2,
}
"""What the original leaves in config.json; most of it says nothing about a model."""


def published(folder: Path, model: OscarPreTrained) -> Path:
    write_published(folder, model, make_tokenizer())
    return folder


@pytest.mark.parametrize(
    "model",
    [
        PretrainingModel(make_config()),
        CaptionModel(make_config()),
        CaptionModel(make_config(has_region_norm=False), is_tied=False),
        ClassifierModel(make_config(), AnswerHead(num_labels=2)),
        ClassifierModel(make_config(), AnswerHead(num_labels=2, kind="mlp", hidden_scale=3)),
        PretrainingModel(make_config(has_region_norm=False), num_contrast_classes=2),
        OscarEncoder(make_config()),
    ],
    ids=["pretraining", "captioning", "untied", "retrieval", "mlp", "oscar v1", "encoder"],
)
def test_published_ours_published(model: OscarPreTrained, tmp_path: Path) -> None:
    there = published(tmp_path / "there", model)
    content = json.loads((there / "config.json").read_text()) | RECORDED
    (there / "config.json").write_text(json.dumps(content))
    told = convert(there, tmp_path / "ours", to="ours", wishes=Wishes())
    assert told[-1].startswith(f"{tmp_path / 'ours'}: written as a model of")
    convert(tmp_path / "ours", tmp_path / "back", to="published", wishes=Wishes())
    before, after = read_tensors(there / PICKLED), read_tensors(tmp_path / "back" / PICKLED)
    assert list(before) == list(after)
    for name in before:
        assert torch.equal(before[name], after[name]), name
    assert json.loads((tmp_path / "back/config.json").read_text()) == content
    convert(tmp_path / "ours", tmp_path / "hub", to="hub", wishes=Wishes())
    convert(tmp_path / "hub", tmp_path / "again", to="published", wishes=Wishes())
    assert (tmp_path / "again" / PICKLED).read_bytes() == (there / PICKLED).read_bytes()
    assert json.loads((tmp_path / "again/config.json").read_text()) == content


def test_a_copy_of_a_model_tells_the_regions_it_learned_from(tmp_path: Path) -> None:
    there = published(tmp_path / "there", PretrainingModel(make_config()))
    convert(there, tmp_path / "ours", to="ours", wishes=Wishes())
    settings = tmp_path / "ours" / SETTINGS
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"geometry": "height_first"}))
    convert(tmp_path / "ours", tmp_path / "copy", to="ours", wishes=Wishes())
    assert read_model(tmp_path / "copy").geometry == "height_first"


def test_the_order_of_box_numbers_is_named_for_a_published_model(tmp_path: Path) -> None:
    there = published(tmp_path / "there", CaptionModel(make_config()))
    told = convert(there, tmp_path / "silent", to="ours", wishes=Wishes())
    assert any("name it with --geometry" in line for line in told)
    assert read_model(tmp_path / "silent").geometry is None
    named = Wishes(geometry="height_first")
    told = convert(there, tmp_path / "ours", to="ours", wishes=named)
    assert f"{tmp_path / 'ours'}: learned from height_first regions" in told
    learned = read_model(tmp_path / "ours").geometry
    assert learned == "height_first"
    library = Library(regions={}, tags={}, annotations=Annotations(), geometry="width_first")
    with pytest.raises(PackingError, match="end height_first, these end width_first"):
        check_geometry(library, learned, "ours")
    told = convert(tmp_path / "ours", tmp_path / "back", to="published", wishes=Wishes())
    assert any("no place for the order of its box numbers, height_first" in line for line in told)


def test_the_order_of_box_numbers_is_not_named_where_it_cannot_be_kept(tmp_path: Path) -> None:
    there = published(tmp_path / "there", CaptionModel(make_config()))
    named = Wishes(geometry="width_first")
    with pytest.raises(FlowError, match="only our layout keeps it"):
        convert(there, tmp_path / "hub", to="hub", wishes=named)
    save_detector(tmp_path / "detector", tiny_model(), label_map_of("abcde", "abcdefgh"))
    with pytest.raises(FlowError, match="setting of the section detect"):
        convert(tmp_path / "detector", tmp_path / "copy", to="ours", wishes=named)
    convert(there, tmp_path / "ours", to="ours", wishes=named)
    convert(tmp_path / "ours", tmp_path / "same", to="ours", wishes=named)
    other = Wishes(geometry="height_first")
    with pytest.raises(FlowError, match="learned from width_first regions, as it says itself"):
        convert(tmp_path / "ours", tmp_path / "other", to="ours", wishes=other)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_classifiers_with_answers_and_a_loss_come_back(kind: HeadKind, tmp_path: Path) -> None:
    head = AnswerHead(num_labels=3, kind=kind, hidden_scale=3)
    there = published(tmp_path / "there", ClassifierModel(make_config(), head))
    content = json.loads((there / "config.json").read_text()) | {"loss_type": "bce"}
    (there / "config.json").write_text(json.dumps(content))
    (tmp_path / "answers.json").write_text('["一", "二", "三"]')
    wishes = Wishes(task="vqa", answers=tmp_path / "answers.json")
    convert(there, tmp_path / "ours", to="ours", wishes=wishes)
    convert(tmp_path / "ours", tmp_path / "back", to="published", wishes=Wishes())
    assert (tmp_path / "back" / PICKLED).read_bytes() == (there / PICKLED).read_bytes()
    assert json.loads((tmp_path / "back/config.json").read_text()) == content


def test_folders_of_before_the_head_was_recorded_are_read(tmp_path: Path) -> None:
    there = published(tmp_path / "there", CaptionModel(make_config()))
    convert(there, tmp_path / "ours", to="ours", wishes=Wishes())
    content = json.loads((tmp_path / "ours/model.json").read_text())
    del content["head"]
    asked = {"label_smoothing": 0.1, "drop_worst_ratio": 0.2, "drop_worst_after": 20000}
    content["settings"] |= asked
    (tmp_path / "ours/model.json").write_text(json.dumps(content))
    convert(tmp_path / "ours", tmp_path / "back", to="published", wishes=Wishes())
    told = json.loads((tmp_path / "back/config.json").read_text())
    assert {key: told[key] for key in asked} == asked


def test_a_damaged_record_of_the_head_is_one_line(tmp_path: Path) -> None:
    there = published(tmp_path / "there", CaptionModel(make_config()))
    convert(there, tmp_path / "ours", to="ours", wishes=Wishes())
    content = json.loads((tmp_path / "ours/model.json").read_text())
    for damaged in ({"heed": 1}, 3, None, {**content["head"], "num_labels": "x"}):
        (tmp_path / "ours/model.json").write_text(json.dumps(content | {"head": damaged}))
        with pytest.raises(WeightsError, match="no model can be read"):
            read_model(tmp_path / "ours")


def test_every_layout_leads_to_the_same_model(tmp_path: Path) -> None:
    there = published(tmp_path / "there", CaptionModel(make_config()))
    convert(there, tmp_path / "hub", to="hub", wishes=Wishes())
    convert(tmp_path / "hub", tmp_path / "ours", to="ours", wishes=Wishes())
    expected = read_model(there)
    for folder in ("hub", "ours"):
        found = read_model(tmp_path / folder)
        assert found.encoder == expected.encoder
        for name, value in expected.weights.items():
            assert torch.equal(found.weights[name], value), (folder, name)


def test_answers_are_asked_for_and_kept(tmp_path: Path) -> None:
    there = published(tmp_path / "there", ClassifierModel(make_config(), AnswerHead(num_labels=3)))
    for wishes in (Wishes(task="vqa"), Wishes()):
        with pytest.raises(WeightsError, match=r"--answers.*trainval_label2ans\.pkl"):
            convert(there, tmp_path / "vqa", to="ours", wishes=wishes)
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps(["红", "蓝", "两"]))
    convert(there, tmp_path / "vqa", to="ours", wishes=Wishes(task="vqa", answers=answers))
    assert read_model(tmp_path / "vqa").knowledge.answers == ("红", "蓝", "两")
    answers.write_text("{}")
    with pytest.raises(FlowError, match="JSON list"):
        convert(there, tmp_path / "no", to="ours", wishes=Wishes(task="vqa", answers=answers))


def test_what_was_guessed_of_two_outputs_is_told(tmp_path: Path) -> None:
    there = published(tmp_path / "there", ClassifierModel(make_config(), AnswerHead(num_labels=2)))
    said = convert(there, tmp_path / "guessed", to="ours", wishes=Wishes())
    assert "a classifier (retrieval, vqa or gqa)" in said[0]
    assert "nobody said of what" in said[-1]
    said = convert(there, tmp_path / "asked", to="ours", wishes=Wishes(task="retrieval"))
    assert said[-1].endswith("written as a model of retrieval")


def test_models_without_a_task_of_ours_go_to_transformers(tmp_path: Path) -> None:
    there = published(tmp_path / "there", PairModel(make_config(), AnswerHead(num_labels=2)))
    with pytest.raises(WeightsError, match="--to hub"):
        convert(there, tmp_path / "ours", to="ours", wishes=Wishes(task="nlvr2"))
    assert not (tmp_path / "ours").exists()
    convert(there, tmp_path / "hub", to="hub", wishes=Wishes(task="nlvr2"))


def test_the_command_tells_every_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = PretrainingModel(make_config(), num_contrast_classes=2)
    there, ours = str(published(tmp_path / "there", model)), str(tmp_path / "ours")
    asked = ("--widen-contrast", "--geometry", "height_first")
    said = oscar(capsys, monkeypatch, "convert", there, ours, *asked)
    assert said.status == 0
    assert read_model(Path(ours)).geometry == "height_first"
    assert "migration: contrast_2_to_3" in said.out
    assert read_model(Path(ours)).task == "pretraining"
    again = oscar(capsys, monkeypatch, "convert", there, ours)
    assert again.status == 2
    assert "is there already" in again.err
    lost = oscar(capsys, monkeypatch, "convert", str(tmp_path / "no"), str(tmp_path / "x"))
    assert lost.status == 2
    assert lost.err == f"error: {tmp_path / 'no'}: no file and no folder there\n"
