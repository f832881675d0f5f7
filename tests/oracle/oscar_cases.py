"""Reading recorded model cases: settings, weights and inputs in our own types."""

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from oscar_core.compat import LossCompat
from oscar_core.heads import AnswerHead
from oscar_core.models import (
    CaptionModel,
    ChoiceModel,
    ClassifierModel,
    PairModel,
    PretrainingModel,
)
from oscar_core.packing import PackedBatch
from oscar_core.published.bert_names import load_published, published_name
from oscar_core.published.config_json import encoder_config
from tests.locations import oracle_dir, oracle_files

ORIGINAL_LOSSES = LossCompat(
    gives_nan_without_masks=True,
    reads_kl_by_3129=True,
    scores_choices_with_two=True,
    may_drop_every_word=True,
)


FOLDER = oracle_dir("oscar")


@cache
def tensors(path: Path) -> dict[str, Tensor]:
    return load_file(path)


def part(stored: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in stored.items() if k.startswith(prefix)}


def batch_of(inputs: Mapping[str, Tensor], width: int) -> PackedBatch:
    """A batch from the original's argument names; choices of an example become rows.

    Types, mask, positions and regions are optional there: types 0, everything visible, positions
    from 0, no regions.

    Args:
        inputs: By argument name.
        width: Of a region's numbers.
    """
    ids = inputs["input_ids"]
    regions = inputs.get("img_feats")
    if regions is None:
        regions = torch.zeros(*ids.shape[:-1], 0, width)
    mask = inputs.get("attention_mask")
    if mask is None:
        mask = torch.ones(*ids.shape[:-1], ids.shape[-1] + regions.shape[-2])
    mask = mask.bool()
    if ids.dim() == 3:
        mask = mask.flatten(0, 1)
        regions = regions.flatten(0, 1)
    positions = inputs.get("position_ids")
    types = inputs.get("token_type_ids", torch.zeros_like(ids))
    return PackedBatch(
        input_ids=ids.reshape(-1, ids.shape[-1]),
        token_type_ids=types.reshape(-1, ids.shape[-1]),
        attention_mask=mask,
        region_features=regions,
        position_ids=None if positions is None else positions.reshape(-1, ids.shape[-1]),
    )


def head_of(config: Mapping[str, Any]) -> AnswerHead:
    return AnswerHead(
        num_labels=config.get("num_labels", 2),
        kind=config.get("classifier") or "linear",
        hidden_scale=config.get("cls_hidden_scale") or 2,
    )


def build(class_name: str, config: Mapping[str, Any]) -> nn.Module:
    """One of our models for an original's class name and settings."""
    ours = encoder_config(config)
    if class_name == "BertImgForPreTraining":
        return PretrainingModel(ours, num_contrast_classes=config.get("num_contrast_classes") or 2)
    if class_name == "BertForImageCaptioning":
        return CaptionModel(
            ours,
            is_tied=bool(config.get("tie_weights")),
            freezes_embedding=bool(config.get("freeze_embedding")),
        )
    head = head_of(config)
    if class_name == "ImageBertForSequenceClassification":
        return ClassifierModel(ours, head)
    if class_name == "ImageBertForMultipleChoice":
        return PairModel(ours, head, num_choices=config.get("num_choice") or 2)
    if class_name == "OscarForMultipleChoice":
        return ChoiceModel(ours, head, ORIGINAL_LOSSES)
    raise AssertionError(f"no model of ours for {class_name}")


def loaded(class_name: str, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> nn.Module:
    """The model with every weight from the file, in evaluation mode."""
    model = build(class_name, config)
    report = load_published(model, state)
    assert (report.missing, report.unused, report.resized) == ((), (), ()), report
    return model.eval()


def gradients(model: nn.Module) -> dict[str, Tensor | None]:
    """Gradients by published name."""
    return {published_name(name): p.grad for name, p in model.named_parameters()}


def check_close(actual: Tensor, expected: Tensor, tolerance: float, name: str) -> None:
    assert actual.shape == expected.shape, f"{name}: {actual.shape} for {expected.shape}"
    torch.testing.assert_close(
        actual.detach().cpu().double(),
        expected.double(),
        rtol=0.0,
        atol=tolerance,
        equal_nan=True,
        msg=lambda m: f"{name}: {m}",
    )


def recorded(name: str) -> Any:
    """Content of a JSON file of the oracle; {} where there is no oracle at all."""
    files = oracle_files("oscar", name)
    return json.loads(files[0].read_text(encoding="utf-8")) if files else {}


def listed(cases: list[Any], names: Callable[[Any], str]) -> list[Any]:
    """Cases as parameters; one skipped case where there is no oracle."""
    if not FOLDER.is_dir():
        skip = pytest.mark.skip(reason="no recorded outputs; set OSCAR_ORACLE_DIR to their folder")
        return [pytest.param(None, marks=skip)]
    assert cases, f"{FOLDER} lists no cases"
    return [pytest.param(case, id=names(case)) for case in cases]


MODELS = recorded("models/models.json")
MISC = recorded("data_misc.json")
CASES = {case["id"]: case for case in MODELS.get("cases", [])}
TOLD = CASES.values()


def of_kind(*kinds: str | None) -> list[Any]:
    return listed([c for c in TOLD if c.get("kind") in kinds], lambda case: case["id"])


def stored(case: Mapping[str, Any]) -> dict[str, Tensor]:
    return tensors(FOLDER / "models" / case["file"])


def weights(case: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights of a case, wherever they lie, tied copies filled in."""
    source = CASES[case.get("weights_from") or case["id"]]
    state = part(stored(source), "w/")
    return state | {copy: state[original] for copy, original in source.get("tied", {}).items()}
