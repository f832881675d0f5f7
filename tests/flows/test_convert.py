"""`oscar-flow convert`: published to ours, ours to published, what is refused."""

import json
from pathlib import Path

import pytest
import torch

from flows.commands.convert import Wishes, convert
from flows.errors import FlowError
from oscar_core.encoder import OscarPreTrained
from oscar_core.errors import WeightsError
from oscar_core.heads import AnswerHead
from oscar_core.model_folder import read_model
from oscar_core.models import CaptionModel, ClassifierModel, PairModel, PretrainingModel
from oscar_core.published.weights_file import PICKLED, read_tensors
from oscar_core.published.writing import write_published
from tests.builders_core import make_config, make_tokenizer
from tests.command_line import oscar


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
    ],
    ids=["pretraining", "captioning", "untied", "retrieval"],
)
def test_published_ours_published(model: OscarPreTrained, tmp_path: Path) -> None:
    there = published(tmp_path / "there", model)
    told = convert(there, tmp_path / "ours", to="ours", wishes=Wishes())
    assert told[-1].startswith(f"{tmp_path / 'ours'}: written as a model of")
    convert(tmp_path / "ours", tmp_path / "back", to="published", wishes=Wishes())
    before, after = read_tensors(there / PICKLED), read_tensors(tmp_path / "back" / PICKLED)
    assert list(before) == list(after)
    for name in before:
        assert torch.equal(before[name], after[name]), name


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
    with pytest.raises(WeightsError, match="--answers"):
        convert(there, tmp_path / "vqa", to="ours", wishes=Wishes(task="vqa"))
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps(["红", "蓝", "两"]))
    convert(there, tmp_path / "vqa", to="ours", wishes=Wishes(task="vqa", answers=answers))
    assert read_model(tmp_path / "vqa").knowledge.answers == ("红", "蓝", "两")
    answers.write_text("{}")
    with pytest.raises(FlowError, match="JSON list"):
        convert(there, tmp_path / "no", to="ours", wishes=Wishes(task="vqa", answers=answers))


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
    said = oscar(capsys, monkeypatch, "convert", there, ours, "--widen-contrast")
    assert said.status == 0
    assert "migration: contrast_2_to_3" in said.out
    assert read_model(Path(ours)).task == "pretraining"
    again = oscar(capsys, monkeypatch, "convert", there, ours)
    assert again.status == 2
    assert "is there already" in again.err
    lost = oscar(capsys, monkeypatch, "convert", str(tmp_path / "no"), str(tmp_path / "x"))
    assert lost.status == 2
    assert "neither model.safetensors nor pytorch_model.bin" in lost.err
