"""Captions with masked words, or empty slots to be filled."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from oscar_core.caption_packing import (
    CaptionBatch,
    CaptionMasking,
    generation_layout,
    pack_captions,
    pack_prompts,
)
from oscar_core.packing import EncoderInput, Layout
from oscar_core.task import Knowledge
from oscar_core.tasks.captioning.records import Config, Example


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Captions as they are laid out, and whose they are."""

    captions: CaptionBatch
    image_ids: tuple[str, ...]

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on a device."""
        return replace(self, captions=self.captions.to(device))


def collate(
    config: Config,
    knowledge: Knowledge,
    examples: Sequence[Example],
    generators: Sequence[np.random.Generator] | None,
) -> Batch:
    """Lay captions out to learn from; without generators, lay out images to be described."""
    layout = Layout(
        max_text=config.max_text,
        max_text_a=config.max_text_a,
        max_regions=config.view.max_regions,
        pad_to_longest=True,
    )
    inputs = []
    for each in examples:
        view = each.view
        inputs.append(EncoderInput(text_a=each.caption, text_b=view.tags, regions=view.regions))
    if generators is None:
        packed = pack_prompts(
            inputs, knowledge.tokenizer, generation_layout(layout, config.max_length)
        )
    else:
        packed = pack_captions(
            inputs,
            knowledge.tokenizer,
            layout,
            CaptionMasking(probability=config.mask_probability, max_masked=config.max_masked),
            [random.Random(int(each.integers(1 << 62))) for each in generators],
            config.packing_compat,
        )
    return Batch(captions=packed, image_ids=tuple(each.image_id for each in examples))
