"""Model folders that other programs wrote, read where ours would be."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from oscar_core.encoder import OscarPreTrained
from oscar_core.errors import ModelConfigError, OscarCoreError, WeightsError
from oscar_core.heads import AnswerHead
from oscar_core.hub_folder import read_hub_folder, write_hub_folder
from oscar_core.model_folder import copy_weights, read_model
from oscar_core.models import CaptionModel, ClassifierModel, PairModel, PretrainingModel
from oscar_core.published.weights_file import PICKLED, read_tensors
from oscar_core.published.writing import write_published
from tests.builders_core import make_config, make_tokenizer, seeded


def published(folder: Path, model: OscarPreTrained) -> Path:
    write_published(folder, model, make_tokenizer())
    return folder


def caption_model() -> CaptionModel:
    seeded()
    return CaptionModel(make_config(), is_tied=False)


def test_a_published_caption_model_predicts_like_one_of_ours(tmp_path: Path) -> None:
    model = caption_model()
    nn.init.normal_(model.word_head.bias)
    nn.init.normal_(model.word_head.decoder.weight)  # type: ignore[union-attr]  # untied: it has one
    stored = read_model(published(tmp_path, model))
    assert stored.task == "captioning"
    assert not stored.config.is_tied
    built = stored.build()
    for name, value in model.state_dict().items():
        assert torch.equal(built.state_dict()[name], value), name


def test_a_model_of_transformers_layout_is_read_too(tmp_path: Path) -> None:
    model = ClassifierModel(make_config(), AnswerHead(num_labels=2))
    write_hub_folder(tmp_path, model, make_tokenizer())
    stored = read_model(tmp_path)
    assert stored.task == "retrieval"
    assert stored.encoder == model.config.sizes()
    again, tokenizer = read_hub_folder(tmp_path)
    assert isinstance(again, ClassifierModel)
    assert tokenizer.vocabulary == make_tokenizer().vocabulary


def test_a_model_whose_answers_nobody_knows_is_not_read(tmp_path: Path) -> None:
    published(tmp_path, ClassifierModel(make_config(), AnswerHead(num_labels=7)))
    with pytest.raises(WeightsError, match="7 outputs"):
        read_model(tmp_path)


def test_a_pair_model_is_no_task_of_ours(tmp_path: Path) -> None:
    published(tmp_path, PairModel(make_config(), AnswerHead(num_labels=2)))
    with pytest.raises(WeightsError, match="PairModel"):
        read_model(tmp_path)


def test_a_bert_begins_a_pretraining_and_is_no_model_by_itself(tmp_path: Path) -> None:
    published(tmp_path, PretrainingModel(make_config(), num_contrast_classes=2))
    state = read_tensors(tmp_path / PICKLED)
    kept = {n: v for n, v in state.items() if not n.startswith(("bert.img_", "bert.LayerNorm"))}
    torch.save(kept, tmp_path / PICKLED)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"img_feature_dim": 11}))
    stored = read_model(tmp_path)
    assert stored.task == "pretraining"
    fresh = PretrainingModel(make_config())
    assert not stored.has_seen_regions
    new = copy_weights(fresh, stored.weights)
    assert {name.rpartition(".")[0] for name in new} == {
        "contrast_head",
        "encoder.region_projection",
        "encoder.region_norm",
    }
    with pytest.raises(WeightsError, match="contrast_head"):
        stored.build()


def test_the_encoder_alone_begins_any_training(tmp_path: Path) -> None:
    model = PretrainingModel(make_config())
    stored = read_model(published(tmp_path, model.encoder))
    new = copy_weights(PretrainingModel(make_config()), stored.weights)
    assert not [name for name in new if name.startswith("encoder.")]


def test_a_two_way_head_says_how_it_becomes_three_way(tmp_path: Path) -> None:
    published(tmp_path, PretrainingModel(make_config(), num_contrast_classes=2))
    stored = read_model(tmp_path)
    assert stored.config.num_contrast_classes == 2
    with pytest.raises(WeightsError, match="--widen-contrast"):
        copy_weights(PretrainingModel(make_config()), stored.weights)


def test_transformers_folders_are_read_strictly(tmp_path: Path) -> None:
    model = caption_model()
    write_hub_folder(tmp_path, model, make_tokenizer())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_layers": 3}))
    with pytest.raises(WeightsError, match=r"layers\.2") as refused:
        read_model(tmp_path)
    assert "\n" not in str(refused.value)
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["Other"]}))
    with pytest.raises(ModelConfigError, match="'Other'"):
        read_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(OscarCoreError):
        read_model(tmp_path)
