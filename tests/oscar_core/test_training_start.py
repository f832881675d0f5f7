"""Where a training starts: a BERT that has seen no regions, and dropout of its own."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertForPreTraining

from oscar_core.model_folder import read_model
from oscar_core.run import train_task
from oscar_core.tasks.pretraining.dataset import texts
from oscar_core.tasks.pretraining.records import Config
from oscar_core.tokens import build_vocabulary, write_vocabulary
from oscar_core.views import ViewSettings
from storage.library import Library
from tests.builders_library import TINY, make_library, tiny_training

SETTINGS = Config(view=ViewSettings(max_regions=4))


@pytest.fixture(scope="module")
def library() -> Library:
    return make_library(num_train=6, num_test=2)


@pytest.fixture
def bert(tmp_path: Path, library: Library) -> Path:
    """A folder as BERT models are published."""
    folder = tmp_path / "bert"
    folder.mkdir()
    vocabulary = build_vocabulary(texts(SETTINGS, library))
    torch.manual_seed(3)
    model = BertForPreTraining(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
        )
    )
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    write_vocabulary(folder / "vocab.txt", vocabulary)
    return folder


def trained(library: Library, start: Path, folder: Path, *, has_region_norm: bool) -> Path:
    """A model after one update so small that nothing moves."""

    train_task(
        task="pretraining",
        settings=SETTINGS,
        encoder=replace(TINY, has_region_norm=has_region_norm),
        training=tiny_training(steps=1, batch_size=2, learning_rate=1e-12),
        library=library,
        vocabulary=None,
        start=start,
        folder=folder,
        losses=folder.with_suffix(".jsonl"),
        on_step=lambda report: None,
        hidden_dropout=0.3,
    )
    return folder


@pytest.mark.parametrize("has_region_norm", [False, True])
def test_pretraining_starts_from_a_bert(
    tmp_path: Path, bert: Path, library: Library, has_region_norm: bool
) -> None:
    assert not read_model(bert).has_seen_regions
    model = trained(library, bert, tmp_path / "model", has_region_norm=has_region_norm)
    weights = load_file(model / "model.safetensors")
    before = torch.load(bert / "pytorch_model.bin", weights_only=True)
    words = "encoder.embeddings.word_embeddings.weight"
    torch.testing.assert_close(
        weights[words], before["bert.embeddings.word_embeddings.weight"], atol=1e-6, rtol=0
    )
    assert ("encoder.region_norm.weight" in weights) == has_region_norm
    stored = json.loads((model / "model.json").read_text())["encoder"]
    assert stored["has_region_norm"] == has_region_norm
    assert stored["hidden_dropout"] == 0.3
    assert stored["region_feature_dim"] == weights["encoder.region_projection.weight"].shape[1]


def test_a_trained_model_has_seen_regions(tmp_path: Path, bert: Path, library: Library) -> None:
    model = trained(library, bert, tmp_path / "model", has_region_norm=True)
    assert read_model(model).has_seen_regions
