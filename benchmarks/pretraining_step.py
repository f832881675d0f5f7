"""One pretraining update: packing, forward, backward; words scored everywhere or where masked."""

from collections.abc import Callable

import numpy as np
import torch

from benchmarks.figure import Figure, ratio, side_by_side, timing
from oscar_core.config import OscarConfig
from oscar_core.losses import NOT_A_TARGET, cross_entropy
from oscar_core.models import PretrainingModel
from oscar_core.packing import EncoderInput, Layout, PackedBatch, pack
from oscar_core.tokens import SPECIAL_TOKENS, Tokenizer

BATCH = 16
NUM_RUNS = 3
CONFIG = OscarConfig(
    vocabulary_size=21128,
    region_feature_dim=2054,
    hidden_size=256,
    num_layers=4,
    num_heads=4,
    intermediate_size=1024,
)


def measure() -> list[Figure]:
    """16 captions of 10 words with 12 tags and 20 of 50 regions, 4 layers of 256, 21,128 words."""
    torch.manual_seed(0)
    words = [f"w{number}" for number in range(CONFIG.vocabulary_size - len(SPECIAL_TOKENS))]
    tokenizer = Tokenizer([*SPECIAL_TOKENS, *words])
    model = PretrainingModel(CONFIG).train()
    inputs = _inputs()
    fixed = Layout(max_text=35, max_regions=50)
    shrunk = Layout(max_text=35, max_regions=50, pad_to_longest=True)
    contrast = torch.zeros(BATCH, dtype=torch.int64)

    def packed(layout: Layout) -> tuple[PackedBatch, torch.Tensor]:
        batch = pack(inputs, tokenizer, layout)
        labels = torch.full(batch.attention_mask.shape, NOT_A_TARGET)
        labels[:, 1:20:7] = batch.input_ids[:, 1:20:7]
        batch.input_ids[:, 1:20:7] = tokenizer.mask_id
        return batch, labels

    def textbook() -> None:
        """As the original: full length, every position scored."""
        batch, labels = packed(fixed)
        word_logits, contrast_logits = model(batch)
        loss = cross_entropy(word_logits, labels) + cross_entropy(contrast_logits, contrast)
        torch.autograd.backward(loss)
        model.zero_grad()

    def ours(layout: Layout) -> None:
        losses = model.losses(*packed(layout), contrast)
        torch.autograd.backward(losses.words + losses.contrast)
        model.zero_grad()

    runs: dict[str, Callable[[], object]] = {
        "packing": lambda: packed(shrunk),
        "textbook": textbook,
        "masked": lambda: ours(fixed),
        "ours": lambda: ours(shrunk),
    }
    seconds = side_by_side(runs, n=NUM_RUNS)
    return [
        timing("packing 16 examples", seconds["packing"]),
        timing("update as in the original", seconds["textbook"]),
        timing("update, words scored where masked", seconds["masked"]),
        timing("update, also padded to the longest", seconds["ours"]),
        ratio("ours against the original's way", seconds["textbook"], seconds["ours"]),
    ]


def _inputs() -> list[EncoderInput]:
    draw = np.random.default_rng(0)

    def text(length: int) -> str:
        return " ".join(f"w{number}" for number in draw.integers(0, 20000, length))

    shape = (20, CONFIG.region_feature_dim)
    return [
        EncoderInput(
            text_a=text(10), text_b=text(12), regions=draw.normal(size=shape).astype(np.float32)
        )
        for _ in range(BATCH)
    ]
