"""Captions by beam search: keys and values kept, or everything computed anew for each word."""

from dataclasses import replace

import numpy as np
import torch

from benchmarks.figure import Figure, ratio, side_by_side, timing
from oscar_core.caption_packing import generation_layout, pack_prompts
from oscar_core.config import OscarConfig
from oscar_core.generation import Generated, GenerationSettings, generate
from oscar_core.models import CaptionModel
from oscar_core.packing import EncoderInput, Layout
from oscar_core.tokens import SPECIAL_TOKENS, Tokenizer

NUM_RUNS = 3
IMAGES, REGIONS, REGION_WIDTH, LENGTH, BEAMS = 2, 50, 2054, 20, 5
"""Beams, regions and length of the published recipe."""


def measure() -> list[Figure]:
    """Four layers of 256, 5,000 words, 2 images, 5 beams, 20 words, random weights."""
    torch.manual_seed(0)
    tokenizer = Tokenizer([*SPECIAL_TOKENS, *(f"w{number}" for number in range(4995))])
    config = OscarConfig(
        vocabulary_size=len(tokenizer),
        region_feature_dim=REGION_WIDTH,
        hidden_size=256,
        num_layers=4,
        num_heads=4,
        intermediate_size=1024,
    )
    model = CaptionModel(config).eval()
    draw = np.random.default_rng(0)
    inputs = [
        EncoderInput(
            text_a="",
            text_b=" ".join(f"w{number}" for number in draw.integers(0, 4995, 30)),
            regions=draw.normal(size=(REGIONS, REGION_WIDTH)).astype(np.float32),
        )
        for _ in range(IMAGES)
    ]
    trained_with = Layout(max_text=70, max_text_a=40, max_regions=REGIONS)
    prompts = pack_prompts(inputs, tokenizer, generation_layout(trained_with, LENGTH))
    settings = GenerationSettings(num_beams=BEAMS)

    def searched(is_cached: bool) -> Generated:
        return generate(model, prompts, tokenizer, replace(settings, is_cached=is_cached))

    assert torch.equal(searched(True).ids, searched(False).ids)
    seconds = side_by_side(
        {"anew": lambda: searched(False), "kept": lambda: searched(True)}, n=NUM_RUNS
    )
    return [
        timing("two captions, computed anew", seconds["anew"]),
        timing("two captions, keys and values kept", seconds["kept"]),
        ratio("keys and values kept", seconds["anew"], seconds["kept"]),
    ]
