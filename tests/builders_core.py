"""Small encoders, vocabularies and inputs to try the model and its packer on."""

from collections.abc import Sequence

import numpy as np
import torch

from oscar_core.config import OscarConfig
from oscar_core.packing import EncoderInput
from oscar_core.tokens import SPECIAL_TOKENS, Tokenizer

WORDS = ("a", "red", "blue", "car", "##s", "dog", "on", "the", "grass", "红", "色", "的", "车")
FEATURE_DIM = 11


def make_tokenizer(words: Sequence[str] = WORDS) -> Tokenizer:
    return Tokenizer([*SPECIAL_TOKENS, *words])


def make_config(**changes: object) -> OscarConfig:
    """Two layers of 16 for the small vocabulary; no dropout."""
    settings: dict[str, object] = {
        "vocabulary_size": len(SPECIAL_TOKENS) + len(WORDS),
        "region_feature_dim": FEATURE_DIM,
        "hidden_size": 16,
        "num_layers": 2,
        "num_heads": 2,
        "intermediate_size": 24,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "max_positions": 64,
        "initializer_range": 0.4,
    }
    return OscarConfig(**(settings | changes))  # type: ignore[arg-type]


def make_input(
    text_a: str = "a red car", text_b: str = "car dog", *, num_regions: int = 3, seed: int = 0
) -> EncoderInput:
    values = np.random.default_rng(seed).normal(size=(num_regions, FEATURE_DIM))
    return EncoderInput(text_a=text_a, text_b=text_b, regions=values.astype(np.float32))


def make_inputs(num: int, *, seed: int = 0) -> list[EncoderInput]:
    """Texts, tags and regions of different lengths."""
    draw = np.random.default_rng(seed)

    def text(most: int) -> str:
        return " ".join(draw.choice(WORDS, size=int(draw.integers(0, most))))

    return [
        make_input(text(8), text(6), num_regions=int(draw.integers(0, 5)), seed=seed + n)
        for n in range(num)
    ]


def seeded(seed: int = 0) -> None:
    """New weights from now on depend on the seed alone."""
    torch.manual_seed(seed)
