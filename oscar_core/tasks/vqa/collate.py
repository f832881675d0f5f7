"""Questions, tags and regions as tensors.

Letters: B examples, C answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from oscar_core.packing import EncoderInput, Layout, PackedBatch, pack
from oscar_core.task import Knowledge
from oscar_core.tasks.vqa.records import Config, Example


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Questions as the encoder reads them.

    targets: (B, C) float32  soft scores; zeros where they are not known
    """

    packed: PackedBatch
    targets: Tensor
    examples: tuple[Example, ...]

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on a device."""
        return replace(self, packed=self.packed.to(device), targets=self.targets.to(device))


def collate(
    config: Config,
    knowledge: Knowledge,
    examples: Sequence[Example],
    generators: Sequence[np.random.Generator] | None,
) -> Batch:
    """Lay questions out; nothing is drawn."""
    layout = Layout(
        max_text=config.max_text, max_regions=config.view.max_regions, pad_to_longest=True
    )
    inputs, targets = [], np.zeros((len(examples), len(knowledge.answers)), dtype=np.float32)
    place = {answer: number for number, answer in enumerate(knowledge.answers)}
    for row, each in zip(targets, examples, strict=True):
        view = each.view
        inputs.append(EncoderInput(text_a=each.question, text_b=view.tags, regions=view.regions))
        for answer, soft in each.targets.items():
            row[place[answer]] = soft
    return Batch(
        packed=pack(inputs, knowledge.tokenizer, layout),
        targets=torch.from_numpy(targets),
        examples=tuple(examples),
    )
