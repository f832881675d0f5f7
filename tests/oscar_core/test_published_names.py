"""Published checkpoints: names both ways, what may be missing, what is refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from oscar_core.errors import ModelConfigError, WeightsError
from oscar_core.heads import AnswerHead
from oscar_core.models import CaptionModel, ClassifierModel, PairModel, PretrainingModel
from oscar_core.published.bert_names import (
    IGNORED,
    from_published,
    load_published,
    our_name,
    published_name,
    to_published,
)
from oscar_core.published.config_json import encoder_config
from tests.builders_core import make_config, seeded

MODELS: list[tuple[str, type[nn.Module], dict[str, object]]] = [
    ("pretraining", PretrainingModel, {}),
    ("captions, tied", CaptionModel, {}),
    ("captions, untied", CaptionModel, {"is_tied": False}),
    ("linear", ClassifierModel, {"head": AnswerHead(num_labels=3)}),
    ("mlp", ClassifierModel, {"head": AnswerHead(num_labels=3, kind="mlp")}),
    ("pair", PairModel, {"head": AnswerHead(num_labels=2, kind="mlp")}),
]


def make(kind: type[nn.Module], options: dict[str, object], seed: int = 0) -> nn.Module:
    seeded(seed)
    return kind(make_config(), **options)


@pytest.mark.parametrize(("name", "kind", "options"), MODELS, ids=[m[0] for m in MODELS])
def test_a_model_written_in_published_names_loads_whole(
    name: str, kind: type[nn.Module], options: dict[str, object]
) -> None:
    written = make(kind, options, seed=1)
    other = make(kind, options, seed=2)
    report = load_published(other, to_published(written.state_dict()))
    assert (report.missing, report.unused, report.resized) == ((), (), ())
    for key, tensor in written.state_dict().items():
        assert torch.equal(other.state_dict()[key], tensor), key


@given(st.sampled_from(sorted(make(PretrainingModel, {}).state_dict())))
def test_names_go_there_and_back(name: str) -> None:
    assert our_name(published_name(name)) == name


def test_tied_projections_are_written_out_as_the_published_files_do() -> None:
    state = to_published(make(PretrainingModel, {}).state_dict())
    assert torch.equal(
        state["cls.predictions.decoder.weight"], state["bert.embeddings.word_embeddings.weight"]
    )


def bert_file() -> dict[str, Tensor]:
    """A two-way BERT without regions, in the names of old TensorFlow conversions."""
    state = to_published(make(PretrainingModel, {"num_contrast_classes": 2}).state_dict())
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in state.items()
        if not name.startswith(("bert.img_embedding", "bert.LayerNorm"))
    }
    return renamed | {"cls.predictions.decoder.bias": torch.zeros(18)}


def test_starting_from_bert_leaves_the_regions_and_the_third_class_new() -> None:
    model = make(PretrainingModel, {}, seed=5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = load_published(model, bert_file())
    regions = {
        f"encoder.region_{p}.{k}" for p in ("projection", "norm") for k in ("weight", "bias")
    }
    assert set(report.missing) == regions
    assert set(report.resized) == {"contrast_head.weight", "contrast_head.bias"}
    for name in (*report.missing, *report.resized):
        assert torch.equal(model.state_dict()[name], before[name])
    assert not torch.equal(
        model.state_dict()["word_head.transform.weight"], before["word_head.transform.weight"]
    )


def test_fine_tuning_leaves_the_heads_of_pretraining_unused() -> None:
    state = to_published(make(PretrainingModel, {}).state_dict())
    report = load_published(make(ClassifierModel, {"head": AnswerHead(num_labels=3)}), state)
    assert set(report.missing) == {"classifier.weight", "classifier.bias"}
    assert all(name.startswith(("word_head.", "contrast_head.")) for name in report.unused)


def test_an_untied_projection_starts_as_the_embedding() -> None:
    state = to_published(make(CaptionModel, {}, seed=1).state_dict())
    del state["cls.predictions.decoder.weight"]
    model = make(CaptionModel, {"is_tied": False}, seed=2)
    load_published(model, state)
    assert isinstance(model, CaptionModel)
    assert model.word_head.decoder is not None
    assert torch.equal(model.word_head.decoder.weight, model.word_embedding)


def test_a_file_of_the_encoder_alone_is_understood() -> None:
    state = to_published(make(PretrainingModel, {}).state_dict())
    bare = {k.removeprefix("bert."): v for k, v in state.items() if k.startswith("bert.")}
    assert set(from_published(bare)) == {k for k in from_published(state) if k[:7] == "encoder"}


@pytest.mark.parametrize("name", sorted(IGNORED))
def test_buffers_and_copies_are_read_over(name: str) -> None:
    assert from_published(
        {name: torch.zeros(1), "bert.pooler.dense.bias": torch.zeros(1)}
    ).keys() == {"encoder.pooler.dense.bias"}


@pytest.mark.parametrize(
    "name",
    [
        "bert.encoder.layer.0.attention.self.rotary.weight",
        "bert.encoder.layer.x.output.dense.weight",
        "bert.pooler.dense.scale",
        "vit.patch.weight",
        "classifier.one.weight",
    ],
)
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(WeightsError, match="not known"):
        from_published({"bert.pooler.dense.bias": torch.zeros(1), name: torch.zeros(1)})


def test_a_tensor_of_another_shape_is_named_with_both_shapes() -> None:
    state = to_published(make(PretrainingModel, {}).state_dict())
    state["bert.img_embedding.weight"] = torch.zeros(16, 99)
    with pytest.raises(WeightsError, match=r"img_embedding.weight.*\(16, 99\).*\(16, 11\)"):
        load_published(make(PretrainingModel, {}), state)


def test_our_own_tensors_have_no_published_name() -> None:
    with pytest.raises(WeightsError, match="no published name"):
        published_name("region_head.weight")


PUBLISHED = {
    "vocab_size": 30,
    "img_feature_dim": 2054,
    "hidden_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 32,
    "type_vocab_size": 2,
}


def test_settings_are_read_and_absent_ones_are_those_of_oscar_v1() -> None:
    config = encoder_config(PUBLISHED | {"pad_token_id": 1, "torchscript": False})
    assert (config.vocabulary_size, config.region_feature_dim) == (30, 2054)
    assert not config.has_region_norm
    assert config.layer_norm_eps == 1e-12
    full = encoder_config(PUBLISHED | {"use_img_layernorm": 1, "img_layer_norm_eps": 1e-5})
    assert full.has_region_norm
    assert full.region_norm_eps == 1e-5


def test_settings_that_are_missing_or_unknown_are_refused() -> None:
    with pytest.raises(ModelConfigError, match="hidden_size"):
        encoder_config({k: v for k, v in PUBLISHED.items() if k != "hidden_size"})
    with pytest.raises(ModelConfigError, match="gelu_new"):
        encoder_config(PUBLISHED | {"hidden_act": "gelu_new"})
