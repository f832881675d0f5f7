"""Measures a few updates of a model as it will be trained, on made-up rows of full length.

Letters: B rows, T text positions, R regions, F region input width, V vocabulary size.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from flows.dry_run.stopwatch import device_here, seconds_of
from oscar_core.config import OscarConfig
from oscar_core.packing import EncoderInput, Layout, PackedBatch, pack
from oscar_core.task import Knowledge, load_task
from oscar_core.tokens import SPECIAL_TOKENS, Tokenizer

MOST_ROWS = 16
NUM_RUNS = 3
_MOST_WORK = 2e11
"""Floating-point operations of one measured batch; a processor core takes some seconds for it."""
_TOLD_SHARE = 0.15
_NUM_ANSWERS = 3129  # of VQA v2; specs/tasks.md 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What was measured of one model.

    row_seconds:    forward and backward pass of one row
    look_seconds:   forward pass of one row without gradient
    update_seconds: the optimiser's part of an update
    row_bytes:      kept of one row for the backward pass
    num_parameters: of the whole model
    """

    row_seconds: float
    look_seconds: float
    update_seconds: float
    row_bytes: int
    num_parameters: int


def probe(
    task: str, settings: object, encoder: OscarConfig, layout: Layout, *, num_rows: int
) -> Probe:
    """Build the task's model with new weights and time a batch; the best of `NUM_RUNS` counts.

    Times are as in `flows.dry_run.stopwatch`.

    Args:
        task: folder of `oscar_core.tasks`.
        settings: that task's `Config`.
        encoder: sizes of the model.
        layout: room for text and regions; the rows fill it.
        num_rows: computed at once in the training; at most `MOST_ROWS` are here.
    """
    device = device_here()
    tokenizer = _tokenizer(encoder.vocabulary_size)
    model = _model(task, settings, encoder, tokenizer).to(device).train()
    num = min(num_rows, MOST_ROWS, _rows_in_time(model, layout))
    batch = _rows(num, tokenizer, encoder.region_feature_dim, layout).to(device)
    optimiser = torch.optim.AdamW(model.parameters())
    row_bytes = kept_bytes(lambda: _loss(model, batch), model) // num
    learning, updating, looking = [], [], []
    for _ in range(NUM_RUNS + 1):
        learning.append(seconds_of(lambda: torch.autograd.backward(_loss(model, batch))))
        updating.append(seconds_of(optimiser.step))
        optimiser.zero_grad()
        with torch.inference_mode():
            looking.append(seconds_of(lambda: _loss(model, batch)))
    return Probe(
        row_seconds=min(learning[1:]) / num,
        look_seconds=min(looking[1:]) / num,
        update_seconds=min(updating[1:]),
        row_bytes=row_bytes,
        num_parameters=sum(each.numel() for each in model.parameters()),
    )


def num_parameters(task: str, settings: object, encoder: OscarConfig) -> int:
    """Of the whole model of a task, which is built without memory for its weights."""
    with torch.device("meta"):
        model = _model(task, settings, encoder, _tokenizer(encoder.vocabulary_size))
    return sum(each.numel() for each in model.parameters())


def kept_bytes(forward: Callable[[], Tensor], model: nn.Module) -> int:
    """What autograd keeps for the backward pass of `forward`, weights left out [bytes]."""
    weights = {each.untyped_storage().data_ptr() for each in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = forward()
    found = sum(kept.values())
    del loss  # until here no place in memory can have been used twice
    return found


def _model(task: str, settings: object, encoder: OscarConfig, tokenizer: Tokenizer) -> nn.Module:
    answers = tuple(map(str, range(_NUM_ANSWERS)))
    knowledge = Knowledge(tokenizer=tokenizer, answers=answers)
    model: nn.Module = load_task(task).build_model(settings, knowledge, encoder)
    return model


def _loss(model: nn.Module, batch: PackedBatch) -> Tensor:
    """Something to learn from every row, and words to tell where the model tells words."""
    encoded = model.encode(batch)  # type: ignore[operator]  # every model of the house has it
    loss: Tensor = encoded.pooled.float().square().mean() + encoded.sequence.float().square().mean()
    if hasattr(model, "word_head"):
        num_told = max(1, int(_TOLD_SHARE * batch.input_ids.shape[1]))
        told = encoded.sequence[:, :num_told].flatten(0, 1)
        logits: Tensor = model.word_head(told, model.word_embedding)  # type: ignore[operator]  # an attribute of nn.Module
        loss = loss + logits.float().logsumexp(dim=1).mean()
    return loss


def _rows_in_time(model: nn.Module, layout: Layout) -> int:
    """Rows that are measured in a bearable time: six operations a weight and position."""
    num_weights = sum(each.numel() for each in model.parameters())
    return max(1, int(_MOST_WORK / (6 * num_weights * (layout.max_text + layout.max_regions))))


def _rows(num: int, tokenizer: Tokenizer, width: int, layout: Layout) -> PackedBatch:
    words = " ".join(tokenizer.vocabulary[-1:] * layout.max_text)
    regions = np.random.default_rng(0).random((layout.max_regions, width), dtype=np.float32)
    return pack([EncoderInput(text_a=words, regions=regions)] * num, tokenizer, layout)


def _tokenizer(size: int) -> Tokenizer:
    """Any vocabulary of that size; what the words are makes no difference."""
    made_up = (f"w{number}" for number in range(max(1, size - len(SPECIAL_TOKENS))))
    return Tokenizer([*SPECIAL_TOKENS, *made_up])
