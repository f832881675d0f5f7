"""Where a training starts: a BERT that has seen no regions, and dropout of its own."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForPreTraining

from oscar_core.errors import WeightsError
from oscar_core.model_folder import read_model
from oscar_core.run import train_task
from oscar_core.tasks.captioning.records import Config as CaptionConfig
from oscar_core.tasks.pretraining.dataset import texts
from oscar_core.tasks.pretraining.records import Config
from oscar_core.tasks.vqa.records import Config as VqaConfig
from oscar_core.tokens import build_vocabulary, write_vocabulary
from oscar_core.training.loop import TrainSummary
from oscar_core.views import ViewSettings
from storage.library import Library
from tests.builders_library import TINY, make_library, tiny_training

SETTINGS = Config(view=ViewSettings(max_regions=4))
CAPTIONS = CaptionConfig(
    view=ViewSettings(max_regions=4), max_text=30, max_text_a=20, mask_probability=0.5
)
VQA = VqaConfig(loss="cross_entropy", min_questions=1)


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


def test_the_folder_of_a_training_says_where_its_model_is(
    library: Library, bert: Path, tmp_path: Path
) -> None:
    model = trained(library, bert, tmp_path / "step" / "model", has_region_norm=True)
    with pytest.raises(WeightsError, match=f"^{model.parent}: .* name the one in it, {model}$"):
        read_model(model.parent)


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


def started(
    library: Library, folder: Path, task: str, settings: object, start: Path | None = None
) -> TrainSummary:
    """One update so small that nothing moves."""
    return train_task(
        task=task,
        settings=settings,
        encoder=TINY,
        training=tiny_training(steps=1, batch_size=2, learning_rate=1e-12),
        library=library,
        vocabulary=None,
        start=start,
        folder=folder / "model",
        losses=folder / "losses.jsonl",
        on_step=lambda report: None,
    )


def test_a_new_word_head_is_told_loudly(
    tmp_path: Path, library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    started(library, tmp_path / "vqa", "vqa", VQA)
    with caplog.at_level(logging.WARNING):
        found = started(library, tmp_path / "two", "captioning", CAPTIONS, tmp_path / "vqa/model")
    assert (found.drawn_anew, found.left_out) == ("word_head", "classifier")
    assert "the start lacks word_head: drawn anew" in caplog.text
    again = started(library, tmp_path / "two", "captioning", CAPTIONS, tmp_path / "vqa/model")
    assert again.drawn_anew == "word_head"  # also of a training that is done already


def test_what_a_fine_tuning_does_anyway_is_no_warning(
    tmp_path: Path, library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    started(library, tmp_path / "words", "captioning", CAPTIONS)
    with caplog.at_level(logging.INFO):
        found = started(library, tmp_path / "vqa", "vqa", VQA, tmp_path / "words/model")
    assert (found.drawn_anew, found.left_out) == ("classifier", "word_head")
    told = {each.message: each.levelname for each in caplog.records}
    assert told["the start lacks classifier: drawn anew"] == "INFO"
    assert told["left out of the start: word_head"] == "INFO"


def test_a_decoder_that_is_left_out_is_told_loudly(
    tmp_path: Path, library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    untied = replace(CAPTIONS, is_tied=False)
    started(library, tmp_path / "one", "captioning", untied)
    with caplog.at_level(logging.WARNING):
        found = started(library, tmp_path / "two", "captioning", CAPTIONS, tmp_path / "one/model")
    assert (found.drawn_anew, found.left_out) == ("", "word_head.decoder")
    assert "left out of the start: word_head.decoder" in caplog.text


def test_a_new_decoder_begins_as_the_word_embedding_of_the_start(
    tmp_path: Path, library: Library
) -> None:
    started(library, tmp_path / "one", "captioning", CAPTIONS)
    untied = replace(CAPTIONS, is_tied=False)
    found = started(library, tmp_path / "two", "captioning", untied, tmp_path / "one/model")
    assert found.drawn_anew == "word_head.decoder"
    weights = load_file(tmp_path / "two/model/model.safetensors")
    before = load_file(tmp_path / "one/model/model.safetensors")
    words = "encoder.embeddings.word_embeddings.weight"
    torch.testing.assert_close(
        weights["word_head.decoder.weight"], before[words], atol=1e-6, rtol=0
    )


def test_half_a_head_is_refused(tmp_path: Path, library: Library) -> None:
    started(library, tmp_path / "one", "captioning", CAPTIONS)
    path = tmp_path / "one/model/model.safetensors"
    weights = load_file(path)
    del weights["word_head.transform.weight"]
    save_file(weights, path)
    with pytest.raises(WeightsError, match=r"lacks tensor 'word_head.transform.weight'"):
        started(library, tmp_path / "two", "captioning", CAPTIONS, tmp_path / "one/model")


def test_the_contrast_head_of_a_bert_is_told_loudly(
    tmp_path: Path, bert: Path, library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = started(library, tmp_path / "two", "pretraining", SETTINGS, bert)
    assert "contrast_head" in found.drawn_anew.split(", ")
    assert "contrast_head" in caplog.text


def test_a_trained_model_has_seen_regions(tmp_path: Path, bert: Path, library: Library) -> None:
    model = trained(library, bert, tmp_path / "model", has_region_norm=True)
    assert read_model(model).has_seen_regions
