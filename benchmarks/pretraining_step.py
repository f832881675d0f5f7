"""One update of pretraining: words scored everywhere and one tensor at a time, or as we do."""

import numpy as np
import torch
from torch import nn

from benchmarks.figure import Figure, ratio, side_by_side, timing
from oscar_core.config import OscarConfig
from oscar_core.masking import mask_words
from oscar_core.models import PretrainingModel
from oscar_core.packing import EncoderInput, Layout, pack
from oscar_core.tokens import SPECIAL_TOKENS, Tokenizer
from oscar_core.training.config import TrainingConfig
from oscar_core.training.optimiser import build_optimiser

NUM_RUNS = 3
BATCH, TEXT, REGIONS, REGION_WIDTH = 16, 35, 50, 2054
VOCABULARY = 21128
"""Sizes of the published recipe (batch aside)."""


def measure() -> list[Figure]:
    """Six layers of 384, the Chinese BERT vocabulary's 21,128 words, 16 rows of 35 + 50."""
    torch.manual_seed(0)
    tokenizer = Tokenizer(
        [*SPECIAL_TOKENS, *(f"w{number}" for number in range(VOCABULARY - len(SPECIAL_TOKENS)))]
    )
    config = OscarConfig(
        vocabulary_size=VOCABULARY,
        region_feature_dim=REGION_WIDTH,
        hidden_size=384,
        num_layers=6,
        num_heads=6,
        intermediate_size=1536,
    )
    draw = np.random.default_rng(0)
    rows = [_row(draw) for _ in range(BATCH)]
    batch = pack(rows, tokenizer, Layout(max_text=TEXT, max_regions=REGIONS))
    masked, labels = mask_words(batch, tokenizer, draw)
    contrast = torch.zeros(BATCH, dtype=torch.int64)
    plain, ours = PretrainingModel(config), PretrainingModel(config)
    plain_optimiser = torch.optim.AdamW(plain.parameters(), lr=5e-5, foreach=False)
    our_optimiser = build_optimiser(ours, TrainingConfig())

    def textbook() -> None:
        words, matches = plain(masked)
        cross_entropy = nn.functional.cross_entropy
        loss = cross_entropy(words.flatten(0, 1), labels.flatten(), ignore_index=-1)
        (loss + cross_entropy(matches, contrast)).backward()
        plain_optimiser.step()
        plain_optimiser.zero_grad()

    def step() -> None:
        losses = ours.losses(masked, labels, contrast)
        (losses.words + losses.contrast).backward()
        our_optimiser.step()
        our_optimiser.zero_grad()

    seconds = side_by_side({"textbook": textbook, "ours": step}, n=NUM_RUNS)
    return [
        timing("update, words scored everywhere", seconds["textbook"]),
        timing("update, masked words only", seconds["ours"]),
        ratio("masked words only", seconds["textbook"], seconds["ours"]),
    ]


def _row(draw: np.random.Generator) -> EncoderInput:
    words = draw.integers(0, VOCABULARY - 100, TEXT)
    return EncoderInput(
        text_a=" ".join(f"w{number}" for number in words[:20]),
        text_b=" ".join(f"w{number}" for number in words[20:]),
        regions=draw.normal(size=(REGIONS, REGION_WIDTH)).astype(np.float32),
    )
