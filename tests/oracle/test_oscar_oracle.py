"""Models, tokenizer and captions against recorded outputs of microsoft/Oscar.

Every case of `models/models.json`, `data_misc.json`, `tokenizer_bert.json` and
`state_dict_keys.json` is run; nothing is named here. Tolerances are those of specs/oscar.md 12:
5e-6 for logits, losses and gradients; whole numbers exact. Query rows that see nothing are skipped.
Trainings are in `test_loops_oracle.py`.
"""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oscar_core.caption_packing import CaptionMasking, pack_captions, pack_prompts
from oscar_core.compat import PackingCompat
from oscar_core.encoder import OscarEncoder
from oscar_core.losses import CaptionLoss, answer_loss, caption_loss, cross_entropy
from oscar_core.models import CaptionModel, PretrainingModel
from oscar_core.packing import EncoderInput, Layout, lengths_that_fit
from oscar_core.published.bert_names import load_published, to_published
from oscar_core.published.config_json import encoder_config
from oscar_core.tokens import Tokenizer, read_vocabulary
from oscar_core.training.config import TrainingConfig
from oscar_core.training.optimiser import PublishedAdamW
from oscar_core.training.schedule import rate_factor
from tests.locations import data_dir
from tests.oracle.oscar_cases import (
    FOLDER,
    MISC,
    MODELS,
    ORIGINAL_LOSSES,
    batch_of,
    build,
    check_close,
    gradients,
    listed,
    loaded,
    of_kind,
    part,
    recorded,
    stored,
    tensors,
    weights,
)

pytestmark = pytest.mark.oracle
VALUES = 5e-6


def check_gradients(model: nn.Module, case: Mapping[str, Any], expected: dict[str, Tensor]) -> None:
    found = gradients(model)
    for name, gradient in expected.items():
        if name in case.get("tied", {}):
            continue
        actual = found[name]
        assert actual is not None, f"{name} has no gradient"
        check_close(actual, gradient, VALUES, name)
    for name in case.get("no_grad") or []:
        assert found.get(name) is None, f"{name} has a gradient"


@pytest.mark.parametrize("case", of_kind(None, "dropout1"))
def test_models_answer_as_recorded(case: Mapping[str, Any]) -> None:
    config, expected = case["config"], part(stored(case), "out/")
    inputs = part(stored(case), "in/")
    assert expected
    if case["class"] == "BertImgModel":
        found = encode(case, inputs)
    else:
        model = loaded(case["class"], config, weights(case))
        model.train(case.get("mode") == "train")
        found = answer(model, case, inputs)
        check_gradients(model, case, part(stored(case), "grad/"))
    for name, value in expected.items():
        check_close(found[name], value, VALUES, name)


def encode(case: Mapping[str, Any], inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Outputs of the encoder alone by the original's names."""
    config = case["config"]
    model = OscarEncoder(encoder_config(config))
    holder = nn.Module()
    holder.encoder = model
    report = load_published(holder, {f"bert.{k}": v for k, v in weights(case).items()})
    assert (report.missing, report.unused) == ((), ())
    model.train(case.get("mode") == "train")
    history = [inputs[k] for k in sorted_by_number(inputs, "encoder_history_states.")]
    mask = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
    encoded = model(
        inputs["input_ids"],
        inputs.get("token_type_ids"),
        mask,
        inputs.get("img_feats"),
        inputs.get("position_ids"),
        inputs.get("head_mask"),
        history or None,
        keep_hidden_states=bool(config.get("output_hidden_states")),
        keep_attentions=bool(config.get("output_attentions")),
    )
    found = {"sequence_output": encoded.sequence, "pooled_output": encoded.pooled}
    found |= {f"hidden_states.{i}": state for i, state in enumerate(encoded.hidden_states)}
    return found | {f"attentions.{i}": value for i, value in enumerate(encoded.attentions)}


def sorted_by_number(names: Mapping[str, object], prefix: str) -> list[str]:
    chosen = [name for name in names if name.startswith(prefix)]
    return sorted(chosen, key=lambda name: int(name.removeprefix(prefix)))


def answer(
    model: nn.Module, case: Mapping[str, Any], inputs: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Outputs of a model with its heads; the loss has been propagated back if there is one."""
    batch = batch_of(inputs, case["config"]["img_feature_dim"])
    if isinstance(model, PretrainingModel):
        words, contrast = model(batch)
        found = {"prediction_scores": words, "seq_relationship_score": contrast}
        if not {"masked_lm_labels", "next_sentence_label"} <= inputs.keys():
            return found
        labels = inputs["masked_lm_labels"]
        losses = model.losses(batch, labels, inputs["next_sentence_label"], ORIGINAL_LOSSES)
        everywhere = cross_entropy(words, labels, ORIGINAL_LOSSES)
        check_close(losses.words, everywhere, VALUES, "loss at chosen positions")
        found |= {"masked_lm_loss": losses.words, "loss": losses.words + losses.contrast}
    else:
        logits = model(batch)
        found = {"logits": logits}
        if "labels" not in inputs:
            return found
        loss_type = case["config"].get("loss_type")
        kind = loss_type if loss_type in ("bce", "kl") else "cross_entropy"
        found["loss"] = answer_loss(logits, inputs["labels"], kind, ORIGINAL_LOSSES)
    if found["loss"].isfinite():
        found["loss"].backward()
    return found


@pytest.mark.parametrize("case", of_kind("caption"))
def test_captions_are_learned_as_recorded(case: Mapping[str, Any]) -> None:
    model = loaded(case["class"], case["config"], weights(case))
    assert isinstance(model, CaptionModel)
    inputs: dict[str, Tensor] = {}
    for number in range(case["forwards"]):
        model.zero_grad()
        inputs = part(stored(case), f"fwd{number}/in/")
        expected = part(stored(case), f"fwd{number}/out/")
        logits, loss = caption_step(model, case["config"], inputs, number + 1)
        loss.backward()
        check_close(logits, expected["class_logits"], VALUES, "class_logits")
        check_close(loss, expected["loss"], VALUES, "loss")
        assert abs(loss.item() - case["losses"][number]) <= VALUES
    check_gradients(model, case, part(stored(case), "grad/"))
    told = part(stored(case), "infer/")["class_logits"]
    seeing = inputs["attention_mask"][:, : told.shape[1]].any(dim=-1)
    check_close(
        model(batch_of(inputs, case["config"]["img_feature_dim"]))[seeing],
        told[seeing],
        VALUES,
        "class_logits",
    )


def caption_step(
    model: CaptionModel, config: Mapping[str, Any], inputs: dict[str, Tensor], number: int
) -> tuple[Tensor, Tensor]:
    """Logits and loss of one training call, counted from 1."""
    settings = CaptionLoss(
        label_smoothing=config.get("label_smoothing") or 0.0,
        drop_worst_ratio=config.get("drop_worst_ratio") or 0.0,
        drop_worst_after=config.get("drop_worst_after") or 0,
    )
    chosen = inputs["masked_pos"].bool()
    labels = inputs["masked_ids"]
    logits = model(batch_of(inputs, config["img_feature_dim"]), chosen)
    targets = labels[labels != 0]
    return logits, caption_loss(logits, targets, settings, number=number, compat=ORIGINAL_LOSSES)


@pytest.mark.parametrize(
    "number", listed(list(range(len(MODELS.get("caption_loss", {}).get("cases", [])))), str)
)
def test_caption_loss_as_recorded(number: int) -> None:
    case = MODELS["caption_loss"]["cases"][number]
    own = part(tensors(FOLDER / "models" / MODELS["caption_loss"]["file"]), f"{number}/")
    settings = CaptionLoss(
        **{k: case[k] for k in ("label_smoothing", "drop_worst_ratio", "drop_worst_after")}
    )
    logits = own["logits"].clone().requires_grad_()
    for call, told in enumerate(case["loss_per_call"], start=1):
        logits.grad = None
        loss = caption_loss(logits, own["target"], settings, number=call, compat=ORIGINAL_LOSSES)
        loss.backward()
        assert loss.item() == pytest.approx(told, abs=VALUES)
    assert logits.grad is not None
    check_close(logits.grad, own["grad_last"], VALUES, "grad_last")


@pytest.mark.parametrize(
    "number", listed(list(range(len(MODELS.get("adamw", {}).get("cases", [])))), str)
)
def test_adamw_as_recorded(number: int) -> None:
    case = MODELS["adamw"]["cases"][number]
    own = part(tensors(FOLDER / "models" / MODELS["adamw"]["file"]), f"adamw{number}/")
    parameter = nn.Parameter(own["p0"].clone())
    groups = [{"params": [parameter], "weight_decay": case["weight_decay"]}]
    optimiser = PublishedAdamW(
        groups,
        lr=case["lr"],
        betas=tuple(case["betas"]),
        eps=case["eps"],
        corrects_bias=case["correct_bias"],
    )
    for step in range(1, len([name for name in own if name.startswith("g")]) + 1):
        parameter.grad = own[f"g{step}"].clone()
        optimiser.step()
        check_close(parameter, own[f"p{step}"], 1e-6, f"p{step}")
    state = optimiser.state[parameter]
    check_close(state["mean"], own["exp_avg"], 1e-6, "exp_avg")
    check_close(state["square"], own["exp_avg_sq"], 1e-6, "exp_avg_sq")


@pytest.mark.parametrize(
    "case",
    listed(MODELS.get("schedules", []), lambda case: f"{case['kind']}-{case['warmup_steps']}"),
)
def test_schedule_as_recorded(case: Mapping[str, Any]) -> None:
    config = TrainingConfig(schedule=case["kind"], warmup=case["warmup_steps"])
    told = case["lr_before_update_k_when_scheduler_steps_after_optimizer"]
    found = [
        case["base_lr"] * rate_factor(config, k, case["t_total"] or 1) for k in range(len(told))
    ]
    assert found == pytest.approx(told, abs=1e-12)


def tiny_tokenizer(*, lower_case: bool = True) -> Tokenizer:
    return read_vocabulary(FOLDER / "oscar_tiny/tokenizer/vocab.txt", lower_case=lower_case)


@pytest.mark.parametrize("case", listed(MISC.get("tokenizer", []), lambda case: case["text"]))
def test_words_are_cut_as_recorded(case: Mapping[str, Any]) -> None:
    assert tiny_tokenizer().tokenize(case["text"]) == case["lower"]
    assert tiny_tokenizer(lower_case=False).tokenize(case["text"]) == case["cased"]
    assert tiny_tokenizer().ids(case["text"]) == case["ids_lower"]


@pytest.mark.parametrize("case", listed(MISC.get("decode", []), lambda case: case["string"]))
def test_ids_become_text_as_recorded(case: Mapping[str, Any]) -> None:
    assert tiny_tokenizer().decode(case["ids"]) == case["skip"]
    assert tiny_tokenizer().decode_parts(case["ids"]) == case["keep"]
    assert " ".join(tiny_tokenizer().tokens(case["ids"])).replace(" ##", "") == case["string"]


def published_vocabulary_cases() -> list[Any]:
    told = recorded("tokenizer_bert.json")
    vocabularies = told.get("vocabularies", {})
    return [(Path(path).name, case) for lang, path in vocabularies.items() for case in told[lang]]


@pytest.mark.parametrize(
    "case", listed(published_vocabulary_cases(), lambda case: f"{case[0]}-{case[1]['text']}")
)
def test_published_vocabularies_cut_as_recorded(case: tuple[str, Mapping[str, Any]]) -> None:
    name, told = case
    path = data_dir("vocab", name)
    lower = read_vocabulary(path)
    assert lower.tokenize(told["text"]) == told["tokens"]
    assert lower.ids(told["text"]) == told["ids"]
    assert lower.decode(told["ids"]) == told["decoded"]
    cased = read_vocabulary(path, lower_case=False).tokenize(told["text"])
    assert cased == (told["cased_tokens"] or told["tokens"])


@pytest.mark.parametrize(
    "case",
    listed(
        MISC.get("truncate_seq_pair", []),
        lambda case: f"{case['len_a']}+{case['len_b']}-{case['max_length']}",
    ),
)
def test_texts_are_cut_as_recorded(case: Mapping[str, Any]) -> None:
    kept = lengths_that_fit(case["len_a"], case["len_b"], case["max_length"])
    assert kept == (case["out_a"], case["out_b"])


@pytest.mark.parametrize(
    "case", listed(MISC.get("caption_samples", {}).get("cases", []), lambda case: case["name"])
)
def test_captions_are_packed_as_recorded(case: Mapping[str, Any]) -> None:
    told = tensors(FOLDER / MISC["caption_samples"]["file"])
    compat = PackingCompat(draws_one_past_vocabulary=True, shortens_masked_ids=True)
    layout = Layout(
        max_text=case["max_seq_length"],
        max_text_a=case["max_seq_a_length"],
        max_regions=case["max_img_seq_length"],
    )
    masking = CaptionMasking(probability=case["mask_prob"], max_masked=case["max_masked_tokens"])
    draw = random.Random(case["python_random_seed"])
    for number, item in enumerate(case["items"]):
        expected = part(told, f"{case['name']}/{number}/")
        features = np.full((item["num_regions"], expected["img_feat"].shape[1]), 1, np.float32)
        regions = expected["img_feat"].numpy()[: item["num_regions"]]
        features[: len(regions)] = regions
        one = EncoderInput(text_a=item["text"], text_b=item["tags"] or "", regions=features)
        if case["is_train"]:
            batch = pack_captions([one], tiny_tokenizer(), layout, masking, [draw], compat)
            assert batch.masked_ids[0].tolist() == expected["masked_ids"].tolist()
        else:
            batch = pack_prompts([one], tiny_tokenizer(), layout)
        packed = batch.packed
        assert packed.input_ids[0].tolist() == expected["input_ids"].tolist()
        assert packed.token_type_ids[0].tolist() == expected["segment_ids"].tolist()
        assert batch.masked[0].tolist() == expected["masked_pos"].bool().tolist()
        assert torch.equal(packed.attention_mask[0], expected["attention_mask"].bool())
        assert torch.equal(packed.region_features[0], expected["img_feat"])


def full_size_models() -> list[Any]:
    # only the public folder has this file
    path = FOLDER / "state_dict_keys.json"
    told = json.loads(path.read_text()) if path.is_file() else {}
    if FOLDER.is_dir() and not told:
        skip = pytest.mark.skip(reason="this oracle has no state_dict_keys.json")
        return [pytest.param(None, marks=skip)]
    return listed(list(told.items()), lambda pair: pair[0])


@pytest.mark.parametrize("pair", full_size_models())
def test_full_size_models_have_the_published_tensors(pair: tuple[str, Mapping[str, Any]]) -> None:
    told = pair[1]
    shapes = dict(told["state_dict"])
    with torch.device("meta"):
        model = build(told["class_name"], config_of(told, shapes))
    expected = []
    for name, shape in told["state_dict"]:
        layers = range(told["layers"]) if "{i}" in name else [0]
        expected += [(name.replace("{i}", str(layer)), shape) for layer in layers]
    found = [(name, list(value.shape)) for name, value in to_published(model.state_dict()).items()]
    assert sorted(found) == sorted(expected)
    assert [n for n, _ in found] == by_layer([n for n, _ in expected])
    assert sum(p.numel() for p in model.parameters()) == told["parameters"]


def by_layer(names: list[str]) -> list[str]:
    """Unfolded names in file order: all of layer 0, then all of layer 1."""
    start = "bert.encoder.layer."
    layers = [name for name in names if name.startswith(start)]
    ordered = sorted(layers, key=lambda name: int(name.removeprefix(start).split(".")[0]))
    first = names.index(layers[0])
    return names[:first] + ordered + names[first + len(layers) :]


def config_of(told: Mapping[str, Any], shapes: Mapping[str, list[int]]) -> dict[str, Any]:
    """Settings of a full-size model, read from its tensor shapes."""
    vocabulary, hidden = shapes["bert.embeddings.word_embeddings.weight"]
    config: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "img_feature_dim": shapes["bert.img_embedding.weight"][1],
        "num_hidden_layers": told["layers"],
        "num_attention_heads": hidden // 64,
        "intermediate_size": shapes["bert.encoder.layer.{i}.intermediate.dense.weight"][0],
        "max_position_embeddings": shapes["bert.embeddings.position_embeddings.weight"][0],
        "type_vocab_size": shapes["bert.embeddings.token_type_embeddings.weight"][0],
        "use_img_layernorm": "bert.LayerNorm.weight" in shapes,
        "tie_weights": True,
        "num_choice": 2,
    }
    if "cls.seq_relationship.weight" in shapes:
        config["num_contrast_classes"] = shapes["cls.seq_relationship.weight"][0]
    biases = [shape for name, shape in shapes.items() if name.startswith("classifier")]
    if biases:
        config["num_labels"] = biases[-1][0]
    if "classifier.0.weight" in shapes:
        config["classifier"] = "mlp"
        config["cls_hidden_scale"] = shapes["classifier.0.weight"][0] // hidden
    return config
