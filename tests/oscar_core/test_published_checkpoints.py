"""Published folders: read strictly, every change named, written back tensor for tensor."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from oscar_core.encoder import OscarEncoder, OscarPreTrained
from oscar_core.errors import ModelConfigError, VocabularyError, WeightsError
from oscar_core.heads import AnswerHead
from oscar_core.models import (
    CaptionModel,
    ChoiceModel,
    ClassifierModel,
    PairModel,
    PretrainingModel,
)
from oscar_core.published.checkpoints import LoadedModel, load_published_folder
from oscar_core.published.weights_file import PICKLED, read_tensors
from oscar_core.published.writing import write_published
from tests.builders_core import make_config, make_tokenizer, seeded

Made = Callable[..., OscarPreTrained]
HEADS: dict[str, tuple[type[OscarPreTrained], dict[str, Any]]] = {
    "encoder": (OscarEncoder, {}),
    "pretraining": (PretrainingModel, {}),
    "two classes": (PretrainingModel, {"num_contrast_classes": 2}),
    "captions": (CaptionModel, {}),
    "captions, untied": (CaptionModel, {"is_tied": False}),
    "linear": (ClassifierModel, {"head": AnswerHead(num_labels=3)}),
    "mlp": (ClassifierModel, {"head": AnswerHead(num_labels=3, kind="mlp", hidden_scale=3)}),
    "pair": (PairModel, {"head": AnswerHead(num_labels=2, kind="mlp")}),
    "choice": (ChoiceModel, {"head": AnswerHead(num_labels=2)}),
}
WORD = "bert.embeddings.word_embeddings.weight"


def make(name: str, seed: int = 1, **sizes: object) -> OscarPreTrained:
    kind, options = HEADS[name]
    seeded(seed)
    model = kind(make_config(**sizes), **options)
    head = getattr(model, "word_head", None)
    if head is not None and head.decoder is not None:
        torch.nn.init.normal_(head.decoder.weight)  # trained, so no longer the embedding
    return model


def published(folder: Path, name: str = "pretraining", **sizes: object) -> Path:
    write_published(folder, make(name, **sizes), make_tokenizer())
    return folder


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], Mapping[str, Tensor]]) -> Path:
    """Change the tensors of a folder."""
    torch.save(dict(change(read_tensors(folder / PICKLED))), folder / PICKLED)
    return folder


def reconfigure(folder: Path, **changes: object) -> Path:
    """Change entries of config.json; None takes one out."""
    content = json.loads((folder / "config.json").read_text()) | changes
    kept = {key: value for key, value in content.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))
    return folder


def without(*starts: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda state: {k: v for k, v in state.items() if not k.startswith(starts)}


def bert(folder: Path) -> Path:
    """A BERT before it has seen a region: two-way head, gamma and beta, no image tensors."""
    published(folder, "two classes")
    rewrite(folder, without("bert.img_embedding", "bert.LayerNorm"))
    rewrite(
        folder,
        lambda state: (
            {
                n.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                    "LayerNorm.bias", "LayerNorm.beta"
                ): t
                for n, t in state.items()
            }
            | {"cls.predictions.decoder.bias": torch.zeros(18)}
        ),
    )
    return reconfigure(
        folder, use_img_layernorm=None, img_feature_dim=None, num_contrast_classes=None
    )


def told(loaded: LoadedModel) -> str:
    return "\n".join(loaded.report.lines())


def same_tensors(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert list(one) == list(other)
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize("name", HEADS)
def test_written_and_read_a_model_is_what_it_was(name: str, tmp_path: Path) -> None:
    model = make(name)
    write_published(tmp_path, model, make_tokenizer())
    loaded = load_published_folder(tmp_path, type(model))
    same_tensors(model.state_dict(), loaded.model.state_dict())
    report = loaded.report
    assert (report.new, report.unused, report.contradictions) == ((), (), ())
    assert not loaded.model.training
    assert loaded.tokenizer.vocabulary == make_tokenizer().vocabulary
    assert loaded.config.sizes() == model.config.sizes()


@settings(max_examples=15)
@given(
    name=st.sampled_from(sorted(HEADS)),
    heads=st.integers(1, 3),
    layers=st.integers(0, 3),
    width=st.integers(7, 12),
    has_norm=st.booleans(),
)
def test_published_ours_published_changes_no_tensor(
    name: str,
    heads: int,
    layers: int,
    width: int,
    has_norm: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    there, back = tmp_path_factory.mktemp("there"), tmp_path_factory.mktemp("back")
    sizes = {
        "hidden_size": 4 * heads,
        "num_heads": heads,
        "num_layers": layers,
        "region_feature_dim": width,
        "has_region_norm": has_norm,
    }
    published(there, name, **sizes)
    loaded = load_published_folder(there, HEADS[name][0])
    write_published(back, loaded.model, loaded.tokenizer)
    same_tensors(read_tensors(there / PICKLED), read_tensors(back / PICKLED))
    for file in ("config.json", "vocab.txt", "special_tokens_map.json", "added_tokens.json"):
        assert (there / file).read_bytes() == (back / file).read_bytes(), file


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("encoder", "encoder"),
        ("pretraining", "pretraining"),
        ("captions, untied", "captioning"),
        ("mlp", "answers"),
        ("pair", "pair"),
    ],
)
def test_the_heads_of_a_file_say_what_it_is(name: str, kind: str, tmp_path: Path) -> None:
    assert load_published_folder(published(tmp_path, name)).report.kind == kind


def test_tied_projections_are_written_twice_and_read_once(tmp_path: Path) -> None:
    state = read_tensors(published(tmp_path) / PICKLED)
    assert torch.equal(state["cls.predictions.decoder.weight"], state[WORD])
    loaded = load_published_folder(tmp_path)
    assert "word_head.decoder.weight" not in loaded.model.state_dict()


def test_a_bert_becomes_a_pretraining_model_and_what_is_new_is_named(tmp_path: Path) -> None:
    loaded = load_published_folder(bert(tmp_path), "pretraining", widens_contrast=True)
    assert set(loaded.report.new) == {
        f"bert.{part}.{kind}"
        for part in ("img_embedding", "LayerNorm")
        for kind in ("weight", "bias")
    }
    for word in ("gamma_beta", "contrast_2_to_3", "no bert.img_embedding", "decoder.bias"):
        assert word in told(loaded)
    assert loaded.config.region_feature_dim == 2054
    again = load_published_folder(tmp_path, "pretraining", widens_contrast=True)
    same_tensors(loaded.model.state_dict(), again.model.state_dict())


def test_a_two_way_head_is_widened_only_when_asked(tmp_path: Path) -> None:
    published(tmp_path, "two classes")
    rows = read_tensors(tmp_path / PICKLED)["cls.seq_relationship.weight"]
    asked = load_published_folder(tmp_path, widens_contrast=True).model
    assert isinstance(asked, PretrainingModel)
    assert torch.equal(asked.contrast_head.weight[:2], rows)
    assert asked.contrast_head.weight[2].any()
    assert asked.contrast_head.bias[2] == 0.0
    plain = load_published_folder(tmp_path).model
    assert isinstance(plain, PretrainingModel)
    assert torch.equal(plain.contrast_head.weight, rows)


def test_a_three_way_head_is_not_widened(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="two-way head"):
        load_published_folder(published(tmp_path), widens_contrast=True)


def test_heads_of_old_caption_checkpoints_are_understood(tmp_path: Path) -> None:
    model = make("captions, untied")
    write_published(tmp_path, model, make_tokenizer())

    def old(state: dict[str, Tensor]) -> dict[str, Tensor]:
        kept = without("cls.predictions.bias")(state)
        return {name.removeprefix("cls.predictions."): value for name, value in kept.items()}

    loaded = load_published_folder(rewrite(tmp_path, old))
    assert "old_caption_head" in told(loaded)
    expected = model.state_dict()
    expected["word_head.bias"] = torch.zeros_like(expected["word_head.bias"])
    same_tensors(loaded.model.state_dict(), expected)


def test_names_of_a_parallel_wrapper_and_of_the_encoder_alone(tmp_path: Path) -> None:
    published(tmp_path)
    rewrite(tmp_path, lambda state: {f"module.{name}": value for name, value in state.items()})
    loaded = load_published_folder(tmp_path)
    assert "parallel_prefix" in told(loaded)
    bare = {n.removeprefix("module.bert."): v for n, v in read_tensors(tmp_path / PICKLED).items()}
    rewrite(tmp_path, lambda _: without("module.")(bare))
    again = load_published_folder(tmp_path)
    assert again.report.kind == "encoder"
    assert "encoder_alone" in told(again)
    assert torch.equal(again.model.get_input_embeddings().weight, loaded.model.word_embedding)


@pytest.mark.parametrize("said", [0, 1, None])
@pytest.mark.parametrize("has_norm", [False, True])
def test_the_image_layer_norm_is_there_if_its_tensors_are(
    said: int | None, has_norm: bool, tmp_path: Path
) -> None:
    published(tmp_path, has_region_norm=has_norm)
    loaded = load_published_folder(reconfigure(tmp_path, use_img_layernorm=said))
    assert loaded.config.has_region_norm is has_norm
    assert bool(loaded.report.contradictions) is (said is not None and bool(said) is not has_norm)
    assert any("LayerNorm" in line for line in loaded.report.inferred) is (said is None)


def test_a_projection_that_is_not_the_embedding_is_kept_apart(tmp_path: Path) -> None:
    published(tmp_path, "captions, untied")
    loaded = load_published_folder(reconfigure(tmp_path, tie_weights=True))
    assert not loaded.config.is_tied
    assert "tie_weights" in loaded.report.contradictions[0]
    rewrite(tmp_path, lambda state: state | {"cls.seq_relationship.weight": torch.zeros(3, 16)})
    rewrite(tmp_path, lambda state: state | {"cls.seq_relationship.bias": torch.zeros(3)})
    with pytest.raises(WeightsError, match="differs from the word embedding"):
        load_published_folder(tmp_path)


def test_without_config_json_the_tensors_decide_and_it_is_told(tmp_path: Path) -> None:
    published(tmp_path)
    (tmp_path / "config.json").unlink()
    loaded = load_published_folder(tmp_path)
    assert loaded.config.num_layers == 2
    assert "attention heads" in told(loaded)
    assert "no config.json" in told(loaded)


@pytest.mark.parametrize(
    ("task", "part"), [("vqa", "answers"), ("captioning", "words"), ("pretraining", "contrast")]
)
def test_a_head_that_is_missing_is_never_drawn_unasked(
    task: str, part: str, tmp_path: Path
) -> None:
    published(tmp_path, "encoder")
    needed = (
        {"answers"}
        if task == "vqa"
        else {"words"}
        if task == "captioning"
        else {"words", "contrast"}
    )
    with pytest.raises(WeightsError, match=r"missing for .*--start-anew"):
        load_published_folder(tmp_path, task, starts_anew=needed - {part})
    loaded = load_published_folder(tmp_path, task, starts_anew=needed)
    assert loaded.report.new
    again = load_published_folder(tmp_path, task, starts_anew=needed, seed=0)
    same_tensors(loaded.model.state_dict(), again.model.state_dict())


def test_a_part_of_the_encoder_never_starts_anew(tmp_path: Path) -> None:
    published(tmp_path)
    rewrite(tmp_path, without("bert.encoder.layer.1.output.dense"))
    with pytest.raises(WeightsError, match=r"bert.encoder.layer.1.output.dense.* is missing"):
        load_published_folder(tmp_path, starts_anew={"words", "contrast", "regions"})


def test_parts_that_do_not_exist_cannot_start_anew(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="'head' is no part"):
        load_published_folder(published(tmp_path), starts_anew={"head"})


def test_heads_of_another_task_are_told_as_unused(tmp_path: Path) -> None:
    loaded = load_published_folder(published(tmp_path), "retrieval", starts_anew={"answers"})
    assert "cls.seq_relationship.weight" in loaded.report.unused
    assert set(loaded.report.new) == {"classifier.weight", "classifier.bias"}
    assert loaded.config.num_labels == 2


def test_a_checkpoint_of_another_program_is_refused_by_its_first_strange_tensor(
    tmp_path: Path,
) -> None:
    published(tmp_path)
    rewrite(tmp_path, lambda state: state | {"vision.patch.weight": torch.zeros(2)})
    with pytest.raises(WeightsError, match=r"vision\.patch\.weight"):
        load_published_folder(tmp_path)
    rewrite(tmp_path, lambda _: {"layer1.weight": torch.zeros(2, 2)})
    with pytest.raises(WeightsError, match="is it a BERT"):
        load_published_folder(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"), [("vocab_size", 30522), ("hidden_size", 32), ("num_hidden_layers", 3)]
)
def test_a_config_of_another_model_is_refused(key: str, value: int, tmp_path: Path) -> None:
    reconfigure(published(tmp_path), **{key: value})
    with pytest.raises(WeightsError, match=f"{key} .* not of one model"):
        load_published_folder(tmp_path)


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"num_attention_heads": "two"}', '{"hidden_act": 3}']
)
def test_a_damaged_config_is_one_line(text: str, tmp_path: Path) -> None:
    (published(tmp_path) / "config.json").write_text(text)
    with pytest.raises(ModelConfigError) as refused:
        load_published_folder(tmp_path)
    assert "\n" not in str(refused.value)


def test_heads_that_do_not_divide_the_width_are_told_by_file_and_key(tmp_path: Path) -> None:
    reconfigure(published(tmp_path), num_attention_heads=5)
    with pytest.raises(ModelConfigError) as refused:
        load_published_folder(tmp_path)
    place = tmp_path / "config.json"
    assert str(refused.value) == f"{place}: num_attention_heads 5 does not divide hidden_size 16"


def test_the_kind_of_numbers_is_told_of_weights_alone(tmp_path: Path) -> None:
    buffer = {"bert.embeddings.position_ids": torch.arange(64)[None]}
    rewrite(published(tmp_path), lambda state: state | buffer)
    assert "float32" not in told(load_published_folder(tmp_path))
    rewrite(tmp_path, lambda state: {name: value.half() for name, value in state.items()})
    assert "tensors of torch.float16 are read as float32" in told(load_published_folder(tmp_path))


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    published(tmp_path)
    rewrite(tmp_path, lambda state: state | {"bert.pooler.dense.weight": torch.zeros(3, 16)})
    with pytest.raises(WeightsError, match=r"bert.pooler.dense.weight.*\(3, 16\).*\(16, 16\)"):
        load_published_folder(tmp_path)


def test_the_vocabulary_has_to_be_the_models(tmp_path: Path) -> None:
    published(tmp_path)
    words = (tmp_path / "vocab.txt").read_text().splitlines()
    (tmp_path / "vocab.txt").write_text("\n".join(words[:-1]) + "\n")
    with pytest.raises(VocabularyError, match=r"17 words.*18 rows"):
        load_published_folder(tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps({words[-1]: 17}))
    assert load_published_folder(tmp_path).tokenizer.vocabulary == tuple(words)
    (tmp_path / "added_tokens.json").write_text(json.dumps({words[-1]: 30}))
    with pytest.raises(VocabularyError, match="added tokens"):
        load_published_folder(tmp_path)
    (tmp_path / "vocab.txt").unlink()
    with pytest.raises(VocabularyError, match="not there"):
        load_published_folder(tmp_path)


def test_a_folder_without_tensors_says_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"neither model.safetensors nor pytorch_model.bin"):
        load_published_folder(tmp_path)


def test_half_precision_files_become_float32_and_it_is_told(tmp_path: Path) -> None:
    published(tmp_path)
    rewrite(tmp_path, lambda state: {name: value.half() for name, value in state.items()})
    loaded = load_published_folder(tmp_path)
    assert "float16" in told(loaded)
    assert loaded.model.dtype == torch.float32


PREDICTIONS = "cls.predictions"


@pytest.mark.parametrize(
    "lost",
    [
        f"{PREDICTIONS}.transform.dense.weight",
        f"{PREDICTIONS}.transform.dense.bias",
        f"{PREDICTIONS}.transform.LayerNorm.weight",
        f"{PREDICTIONS}.bias",
        "cls.seq_relationship.weight",
        "cls.seq_relationship.bias",
        "bert.LayerNorm.weight",
        "bert.LayerNorm.bias",
        "bert.img_embedding.weight",
        "bert.img_embedding.bias",
        "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
    ],
)
@pytest.mark.parametrize("task", [None, "pretraining"])
def test_a_file_that_lost_one_tensor_is_no_smaller_model(
    task: str | None, lost: str, tmp_path: Path
) -> None:
    published(tmp_path, has_region_norm=True)
    rewrite(tmp_path, lambda state: {n: v for n, v in state.items() if n != lost})
    with pytest.raises(WeightsError, match=rf"{lost}' is missing"):
        load_published_folder(tmp_path, task)


@pytest.mark.parametrize(
    "lost", ["classifier.0.weight", "classifier.2.weight", "classifier.2.bias"]
)
def test_a_classifier_that_lost_one_tensor_is_no_smaller_one(lost: str, tmp_path: Path) -> None:
    published(tmp_path, "mlp")
    rewrite(tmp_path, lambda state: {n: v for n, v in state.items() if n != lost})
    with pytest.raises(WeightsError, match=rf"{lost}' is missing"):
        load_published_folder(tmp_path)


def test_a_pooler_of_a_bert_that_lost_its_bias_does_not_start_anew(tmp_path: Path) -> None:
    rewrite(bert(tmp_path), without("bert.pooler.dense.bias"))
    with pytest.raises(WeightsError, match=r"bert.pooler.dense.bias' is missing"):
        load_published_folder(tmp_path, "pretraining")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    name = "bert.pooler.dense.bias"
    rewrite(published(tmp_path), lambda state: state | {name: state[name] + value})
    with pytest.raises(WeightsError, match=f"{name}.*not finite"):
        load_published_folder(tmp_path)


def test_whole_numbers_are_no_weights_but_buffers_may_hold_them(tmp_path: Path) -> None:
    buffer = {"bert.embeddings.position_ids": torch.arange(12)[None]}
    rewrite(published(tmp_path), lambda state: state | buffer)
    assert "position_ids" in told(load_published_folder(tmp_path))
    rewrite(tmp_path, lambda state: state | {WORD: (100 * state[WORD]).long()})
    with pytest.raises(WeightsError, match=f"{WORD}.*int64"):
        load_published_folder(tmp_path)


def test_a_second_bias_of_the_word_head_is_compared(tmp_path: Path) -> None:
    bias, second = f"{PREDICTIONS}.bias", f"{PREDICTIONS}.decoder.bias"
    rewrite(published(tmp_path), lambda state: state | {second: state[bias].clone()})
    loaded = load_published_folder(tmp_path)
    assert second in told(loaded)
    rewrite(tmp_path, lambda state: {n: v for n, v in state.items() if n != bias})
    again = load_published_folder(tmp_path)
    assert "decoder_bias" in told(again)
    same_tensors(again.model.state_dict(), loaded.model.state_dict())
    rewrite(tmp_path, lambda state: state | {bias: state[second] + 7})
    with pytest.raises(WeightsError, match="differ"):
        load_published_folder(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bert.embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.weight"),
        ("bert.pooler.dense.beta", "bert.pooler.dense.bias"),
    ],
)
def test_two_tensors_for_one_parameter_are_refused(old: str, new: str, tmp_path: Path) -> None:
    rewrite(published(tmp_path), lambda state: state | {old: 5 * state[new]})
    with pytest.raises(WeightsError, match=rf"{new}.*{old}.*both"):
        load_published_folder(tmp_path)
