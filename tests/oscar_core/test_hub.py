"""Our models as transformers knows them: stored, found, switched, compiled, trained."""

import json
import warnings
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AttentionInterface,
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    Trainer,
    TrainingArguments,
)

from oscar_core.attention import eager_attention
from oscar_core.config import OscarConfig
from oscar_core.encoder import OscarEncoder, OscarPreTrained
from oscar_core.errors import ModelConfigError, WeightsError
from oscar_core.heads import AnswerHead
from oscar_core.hub_config import OscarHubConfig, hub_config
from oscar_core.losses import answer_loss
from oscar_core.models import (
    CaptionModel,
    ChoiceModel,
    ClassifierModel,
    PairModel,
    PretrainingModel,
)
from oscar_core.packing import Layout, PackedBatch, pack
from oscar_core.published.writing import write_published
from tests.builders_core import make_config, make_inputs, make_tokenizer, seeded

LAYOUT = Layout(max_text=16, max_regions=4)
KINDS: dict[str, tuple[type[OscarPreTrained], dict[str, Any], type[Any]]] = {
    "encoder": (OscarEncoder, {}, AutoModel),
    "pretraining": (PretrainingModel, {"num_contrast_classes": 2}, AutoModelForPreTraining),
    "captions": (CaptionModel, {}, AutoModelForMaskedLM),
    "untied, frozen": (
        CaptionModel,
        {"is_tied": False, "freezes_embedding": True},
        AutoModelForMaskedLM,
    ),
    "classifier": (
        ClassifierModel,
        {"head": AnswerHead(num_labels=5, kind="mlp", hidden_scale=3)},
        AutoModelForSequenceClassification,
    ),
    "pair": (
        PairModel,
        {"head": AnswerHead(num_labels=2, kind="mlp")},
        AutoModelForMultipleChoice,
    ),
    "choice": (ChoiceModel, {"head": AnswerHead(num_labels=2)}, AutoModelForMultipleChoice),
}


def make_batch(num: int = 4) -> PackedBatch:
    return pack(make_inputs(num), make_tokenizer(), LAYOUT)


def tensors_of(batch: PackedBatch) -> dict[str, Tensor]:
    return {
        "input_ids": batch.input_ids,
        "token_type_ids": batch.token_type_ids,
        "attention_mask": batch.attention_mask,
        "region_features": batch.region_features,
    }


def labels_of(batch: PackedBatch) -> dict[str, Tensor]:
    words = torch.full(batch.attention_mask.shape, -1)
    words[:, 1], words[1, 2] = 5, 7
    return {"word_labels": words, "contrast_labels": torch.tensor([0, 1, -1, 2])}


@pytest.mark.parametrize("name", KINDS)
def test_what_was_saved_comes_back_by_its_own_class_and_by_auto(name: str, tmp_path: Path) -> None:
    kind, options, auto = KINDS[name]
    model = kind(make_config(), **options)
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    for again in (kind.from_pretrained(tmp_path), auto.from_pretrained(tmp_path)):
        assert type(again) is kind
        assert not again.training
        assert list(again.state_dict()) == list(model.state_dict())
        for key, value in model.state_dict().items():
            assert torch.equal(again.state_dict()[key], value), key
        free = [p.requires_grad for p in again.parameters()]
        assert free == [p.requires_grad for p in model.parameters()]
        assert again.get_input_embeddings().weight.requires_grad is (name != "untied, frozen")
        assert again.config.to_diff_dict() == model.config.to_diff_dict()
    assert type(AutoConfig.from_pretrained(tmp_path)) is OscarHubConfig


def test_a_tied_projection_is_stored_once_and_an_untied_one_by_itself(tmp_path: Path) -> None:
    CaptionModel(make_config()).save_pretrained(tmp_path / "tied")
    CaptionModel(make_config(), is_tied=False).save_pretrained(tmp_path / "untied")
    tied = CaptionModel.from_pretrained(tmp_path / "tied")
    untied = CaptionModel.from_pretrained(tmp_path / "untied")
    assert "word_head.decoder.weight" not in tied.state_dict()
    assert untied.word_head.decoder.weight is not untied.word_embedding


def test_the_encoder_of_any_model_is_taken_by_its_name(tmp_path: Path) -> None:
    model = PretrainingModel(make_config()).eval()
    model.save_pretrained(tmp_path)
    batch = make_batch()
    found = OscarEncoder.from_pretrained(tmp_path)(**tensors_of(batch))
    assert torch.equal(found.sequence, model.encode(batch).sequence)


def test_new_parts_of_a_loaded_model_are_drawn_as_ours_are(tmp_path: Path) -> None:
    OscarEncoder(make_config(hidden_size=64, num_heads=4)).save_pretrained(tmp_path)
    model = PretrainingModel.from_pretrained(tmp_path, starts_anew=True)
    head = model.word_head
    assert head.transform.weight.std().item() == pytest.approx(0.4, rel=0.1)
    assert (head.norm.weight == 1).all()
    assert not head.bias.any()
    assert not head.norm.bias.any()


def test_a_head_that_is_not_there_is_never_drawn_unasked(tmp_path: Path) -> None:
    PretrainingModel(make_config()).save_pretrained(tmp_path)
    for way in (ClassifierModel, AutoModelForSequenceClassification):
        with pytest.raises(WeightsError, match=r"'classifier.bias' and 1 others.*starts_anew"):
            way.from_pretrained(tmp_path)
        model, info = way.from_pretrained(tmp_path, starts_anew=True, output_loading_info=True)
        assert isinstance(model, ClassifierModel)
        assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"}


def test_the_settings_are_those_of_the_encoder_under_the_same_names() -> None:
    ours = {each.name: each.default for each in fields(OscarConfig)}
    theirs = {each.name: each.default for each in fields(OscarHubConfig)}
    assert ours.keys() <= theirs.keys()
    defaults = {name: theirs[name] for name in ours if name in theirs}
    assert {name: value for name, value in ours.items() if value == defaults[name]}.keys() == (
        ours.keys() - {"vocabulary_size", "region_feature_dim"}
    )
    config = hub_config(make_config(num_layers=3), num_labels=7)
    assert config.sizes() == make_config(num_layers=3)
    assert (config.num_hidden_layers, config.vocab_size, config.num_labels) == (3, 18, 7)


def test_settings_that_contradict_are_refused() -> None:
    with pytest.raises(ModelConfigError, match="multiple of num_heads"):
        OscarHubConfig(hidden_size=10, num_heads=3)
    with pytest.raises(ModelConfigError, match="num_choices"):
        OscarHubConfig(num_choices=0)
    whole = hub_config(make_config())
    with pytest.raises(ModelConfigError, match="num_contrast_classes said twice"):
        PretrainingModel(whole, num_contrast_classes=2)


def test_a_published_folder_is_refused_by_from_pretrained(tmp_path: Path) -> None:
    """Transformers would find no tensor by name and draw all of them."""
    write_published(tmp_path, PretrainingModel(make_config()), make_tokenizer())
    with pytest.raises(ModelConfigError, match="oscar-flow convert"):
        PretrainingModel.from_pretrained(tmp_path)


def test_both_ways_of_asking_give_the_same() -> None:
    batch = make_batch()
    labels = labels_of(batch)
    model = PretrainingModel(make_config()).eval()
    output = model(**tensors_of(batch), **labels)
    words, contrast = model(batch)
    losses = model.losses(batch, labels["word_labels"], labels["contrast_labels"])
    assert torch.equal(output.word_logits, words)
    assert torch.equal(output.contrast_logits, contrast)
    torch.testing.assert_close(output.loss, losses.words + losses.contrast)
    as_transformers = {
        name: value.masked_fill(value < 0, -100)[:, :16] if value.dim() == 2 else value
        for name, value in labels.items()
    }
    again = model(**tensors_of(batch), **as_transformers, return_dict=False)
    torch.testing.assert_close(again[0], output.loss)


@pytest.mark.parametrize("kind", ["cross_entropy", "bce", "kl"])
def test_classifiers_learn_by_the_loss_of_their_config(kind: str) -> None:
    batch = make_batch()
    config = hub_config(make_config(), num_labels=3, answer_loss=kind)
    model = ClassifierModel(config).eval()
    labels = torch.tensor([0, 2, 1, 1]) if kind == "cross_entropy" else torch.rand(4, 3)
    output = model(**tensors_of(batch), labels=labels)
    assert torch.equal(output.logits, model(batch))
    assert torch.equal(output.loss, answer_loss(output.logits, labels, kind))  # type: ignore[arg-type]  # kind by name


@pytest.mark.parametrize("kind", [PairModel, ChoiceModel])
def test_choices_are_an_axis_or_rows(kind: type[PairModel | ChoiceModel]) -> None:
    batch = make_batch()
    model = kind(make_config(), AnswerHead(num_labels=2)).eval()
    choices = {name: value.unflatten(0, (2, 2)) for name, value in tensors_of(batch).items()}
    assert torch.equal(model(**choices).logits, model(batch))


def test_captions_are_learned_where_a_label_is() -> None:
    batch = make_batch()
    config = hub_config(make_config(), label_smoothing=0.1, drop_worst_ratio=0.5)
    model = CaptionModel(config).eval()
    labels = torch.full(batch.input_ids.shape, -100)
    labels[:, 2] = torch.arange(4) + 5
    output = model(**tensors_of(batch), labels=labels)
    assert torch.equal(output.logits, model(batch))
    logits = model(batch, labels >= 0)
    spread = 0.1 / (logits.shape[1] - 1)
    targets = torch.full_like(logits, spread).scatter(1, (torch.arange(4) + 5)[:, None], 0.9)
    divergence = (targets * (targets.log() - logits.log_softmax(dim=1))).sum(dim=1)
    torch.testing.assert_close(output.loss, divergence.sort().values[:2].mean())


def test_a_model_asked_nothing_says_so() -> None:
    with pytest.raises(TypeError, match="PackedBatch or input_ids"):
        PretrainingModel(make_config())()


def test_hidden_states_and_attentions_are_returned_when_asked() -> None:
    batch = make_batch()
    model = CaptionModel(make_config()).eval()
    output = model(**tensors_of(batch), output_attentions=True, output_hidden_states=True)
    assert [each.shape for each in output.hidden_states] == [(4, 20, 16)] * 3
    assert [each.shape for each in output.attentions] == [(4, 2, 20, 20)] * 2
    torch.testing.assert_close(output.attentions[0].sum(dim=-1), torch.ones(4, 2, 20))


@pytest.fixture
def seen() -> Iterator[list[str]]:
    """Attention of another kind, known to transformers by name."""
    calls: list[str] = []

    def counted(module: torch.nn.Module, *arguments: Any, **settings: Any) -> Any:
        calls.append(type(module).__name__)
        return eager_attention(module, *arguments, **settings)

    AttentionInterface.register("counted", counted)
    yield calls
    del AttentionInterface._global_mapping["counted"]


def test_attention_is_chosen_by_transformers_switch(seen: list[str], tmp_path: Path) -> None:
    batch = make_batch()
    model = PretrainingModel(make_config()).eval()
    assert model.config._attn_implementation == "sdpa"
    fused, _ = model(batch)
    for name in ("eager", "counted"):
        model.set_attn_implementation(name)
        torch.testing.assert_close(model(batch)[0], fused, rtol=0, atol=2e-5)
    assert seen == ["SelfAttention"] * 2
    model.save_pretrained(tmp_path)
    again = PretrainingModel.from_pretrained(tmp_path, attn_implementation="counted")
    again(batch)
    assert len(seen) == 4


def test_flash_attention_is_refused_where_it_is_not_installed() -> None:
    model = PretrainingModel(make_config())
    with pytest.raises(ImportError, match=r"FlashAttention2 .* installed"):
        model.set_attn_implementation("flash_attention_2")


def test_flash_attention_cannot_read_a_captions_mask() -> None:
    """Reached before any kernel, so no such kernel is needed to see it."""
    model = CaptionModel(make_config()).eval()
    model.config._attn_implementation_internal = "flash_attention_2"
    tensors = tensors_of(make_batch())
    tensors["attention_mask"] = torch.ones(4, 20, 20)
    with pytest.raises(ModelConfigError, match="sdpa"):
        model(**tensors)


@pytest.mark.slow
def test_flex_attention_sees_what_the_others_see() -> None:
    """Compiled by torch on the way; on a processor it knows no way back, so nothing is learned."""
    batch = make_batch()
    model = PretrainingModel(make_config(hidden_size=64, num_heads=4)).eval()
    fused, _ = model(batch)
    model.set_attn_implementation("flex_attention")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler's
        found, _ = model(batch)
    seen = batch.attention_mask
    torch.testing.assert_close(found[seen], fused[seen], rtol=1e-4, atol=1e-3)


def test_more_words_grow_the_embedding_and_the_word_head() -> None:
    batch = make_batch()
    for model in (PretrainingModel(make_config()), CaptionModel(make_config(), is_tied=False)):
        before = model.eval()(**tensors_of(batch))
        model.resize_token_embeddings(21, mean_resizing=False)
        after = model(**tensors_of(batch))
        name = "word_logits" if isinstance(model, PretrainingModel) else "logits"
        assert after[name].shape[-1] == model.config.vocab_size == 21
        torch.testing.assert_close(after[name][..., :18], before[name])
        assert not model.word_head.bias[18:].any()


def gradients(model: PretrainingModel, batch: PackedBatch) -> dict[str, Tensor]:
    model.zero_grad()
    torch.manual_seed(3)
    model(**tensors_of(batch), **labels_of(batch)).loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_recomputed_layers_give_the_same_gradients(implementation: str) -> None:
    model = PretrainingModel(make_config(hidden_dropout=0.2, attention_dropout=0.2)).train()
    model.set_attn_implementation(implementation)
    batch = make_batch()
    kept = gradients(model, batch)
    model.activation_checkpointing_enable()
    assert all(layer.gradient_checkpointing for layer in model.encoder.layers)
    recomputed = gradients(model, batch)
    for name, value in kept.items():
        assert torch.equal(recomputed[name], value), name
    model.activation_checkpointing_disable()


def test_the_older_name_of_checkpointing_works() -> None:
    model = PretrainingModel(make_config()).train()
    with pytest.warns(FutureWarning):
        model.gradient_checkpointing_enable()
    assert model.is_activation_checkpointing


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("pretraining", "aot_eager"),
        ("captions", "eager"),
        ("classifier", "eager"),
        ("pair", "eager"),
    ],
)
def test_models_compile_without_a_break(name: str, backend: str) -> None:
    kind, options, _ = KINDS[name]
    seeded()
    model = kind(make_config(num_layers=1), **options).eval()
    batch = make_batch()
    labels: dict[str, Tensor] = {
        "pretraining": {
            "word_labels": labels_of(batch)["word_labels"],
            "contrast_labels": torch.tensor([0, 1, 0, 1]),
        },
        "captions": {"labels": batch.input_ids},
        "classifier": {"labels": torch.tensor([0, 1, 2, 3])},
        "pair": {"labels": torch.tensor([0, 1])},
    }[name]
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    plain = model(**tensors_of(batch), **labels)
    found = compiled(**tensors_of(batch), **labels)
    torch.testing.assert_close(found.loss, plain.loss)
    found.loss.backward()
    assert model.encoder.region_projection.weight.grad is not None
    torch._dynamo.reset()


def test_the_loss_of_one_objective_stands_for_itself() -> None:
    batch = make_batch()
    labels = labels_of(batch)
    model = PretrainingModel(make_config()).eval()
    both = model(**tensors_of(batch), **labels)
    words = model(**tensors_of(batch), word_labels=labels["word_labels"])
    contrast = model(**tensors_of(batch), contrast_labels=labels["contrast_labels"])
    assert torch.equal(words.loss, both.word_loss)
    assert torch.equal(contrast.loss, both.contrast_loss)
    assert torch.equal(both.loss, both.word_loss + both.contrast_loss)
    assert model(**tensors_of(batch)).loss is None


class Rows(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Examples as `Trainer` wants them."""

    def __init__(self, batch: PackedBatch) -> None:
        self.columns = tensors_of(batch) | labels_of(batch)

    def __len__(self) -> int:
        return len(self.columns["input_ids"])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: column[index] for name, column in self.columns.items()}


def test_transformers_trainer_trains_and_stores_a_model(tmp_path: Path) -> None:
    model = PretrainingModel(make_config())
    before = model.word_embedding.detach().clone()
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=2,
        learning_rate=0.01,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    rows = Rows(make_batch())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Trainer's own making
        trainer = Trainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows)
        trainer.train()
        measured = trainer.evaluate()
    assert measured["eval_loss"] > 0
    assert not torch.equal(model.word_embedding, before)
    trainer.save_model(str(tmp_path / "model"))
    assert json.loads((tmp_path / "model/config.json").read_text())["model_type"] == "oscar"
