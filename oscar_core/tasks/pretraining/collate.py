"""Pretraining samples -> tensors.

Letters: B rows, S text and region positions, R region positions, K words of a region.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oscar_core.config import NUM_BOX_NUMBERS
from oscar_core.dice import PythonDice
from oscar_core.losses import NOT_A_TARGET
from oscar_core.packing import PackedBatch, Parts, stack_regions
from oscar_core.task import Knowledge
from oscar_core.tasks.pretraining.records import Config, Example
from oscar_core.tasks.pretraining.sample import Sample, layout_of, make_sample
from oscar_core.tokens import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Samples side by side.

    word_labels:  (B, S) int64     original id where masked, else -1
    match_labels: (B,) int64       0 matched, 1 wrong second text, 2 wrong first text; -1 not asked
    region_words: (B, R, K) int64  first wordpiece of each word of a region, -1 where none
    origins:      B of (image id, kind, first text)
    """

    packed: PackedBatch
    word_labels: Tensor
    match_labels: Tensor
    region_words: Tensor
    origins: tuple[tuple[str, str, str], ...]

    def to(self, device: torch.device | str) -> "Rows":
        """The same rows on a device."""
        return replace(
            self,
            packed=self.packed.to(device),
            word_labels=self.word_labels.to(device),
            match_labels=self.match_labels.to(device),
            region_words=self.region_words.to(device),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One set of rows, or several of different lengths."""

    rows: tuple[Rows, ...]

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on a device."""
        return Batch(rows=tuple(rows.to(device) for rows in self.rows))


def collate(
    config: Config,
    knowledge: Knowledge,
    examples: Sequence[Example],
    generators: Sequence[np.random.Generator] | None,
) -> Batch:
    """Draw a sample of each example and lay them out; without generators, hide all answers."""
    samples = [
        make_sample(
            config,
            knowledge.tokenizer,
            example,
            PythonDice(int(generators[i].integers(1 << 62)) if generators else i),
            is_probe=generators is None,
        )
        for i, example in enumerate(examples)
    ]
    return lay_out(config, knowledge.tokenizer, examples, samples)


def lay_out(
    config: Config, tokenizer: Tokenizer, examples: Sequence[Example], samples: Sequence[Sample]
) -> Batch:
    """Tensors of samples, one an example."""
    return Batch(rows=(_rows(config, tokenizer, examples, samples),))


def _rows(
    config: Config, tokenizer: Tokenizer, examples: Sequence[Example], samples: Sequence[Sample]
) -> Rows:
    layout = layout_of(config)
    features, num_regions = stack_regions([each.view.regions for each in examples], layout)
    num_first = np.array([len(sample.text.first) for sample in samples], dtype=np.int64)
    num_second = np.array([len(sample.text.second) for sample in samples], dtype=np.int64)
    parts = Parts(
        num_first=num_first,
        second_start=num_first,
        num_second=num_second,
        num_text=int((num_first + num_second).max()),
        num_regions=num_regions,
        num_region_slots=features.shape[1],
    )
    input_ids, token_type_ids = parts.fill([sample.text for sample in samples], tokenizer.pad_id)
    labels = np.full((len(samples), parts.num_text + features.shape[1]), NOT_A_TARGET, np.int64)
    for row, sample in zip(labels, samples, strict=True):
        told = sample.first_labels + sample.second_labels
        row[: len(told)] = told
    packed = PackedBatch(
        input_ids=torch.from_numpy(input_ids),
        token_type_ids=torch.from_numpy(token_type_ids),
        attention_mask=torch.from_numpy(parts.mask("CLR")),
        region_features=torch.from_numpy(features),
    )
    return Rows(
        packed=packed,
        word_labels=torch.from_numpy(labels),
        match_labels=torch.tensor([sample.label for sample in samples]),
        region_words=torch.from_numpy(
            _region_words(config, tokenizer, examples, features.shape[1])
        ),
        origins=tuple(
            (each.document.image_id, each.document.kind, each.document.first) for each in examples
        ),
    )


def _region_words(
    config: Config, tokenizer: Tokenizer, examples: Sequence[Example], num_slots: int
) -> NDArray[np.int64]:
    """(B, R, K): class, then attributes, then place, each by its first wordpiece."""
    num_words = 1 + config.region_attributes
    found = np.full((len(examples), num_slots, num_words + 1), NOT_A_TARGET, np.int64)
    if config.region_weight > 0:
        places = [tokenizer.ids(word)[0] for word in config.region_places]
        for row, example in zip(found, examples, strict=True):
            view = example.view
            for slot, words in zip(row, view.words, strict=False):
                ids = [tokenizer.ids(word)[0] for word in words[:num_words]]
                slot[: len(ids)] = ids
            if places:
                slots = place_numbers(view.regions, len(places))[:num_slots]
                row[: len(slots), -1] = np.array(places)[slots]
    return found


def place_numbers(regions: NDArray[np.float32], num_places: int) -> NDArray[np.int64]:
    """Which part of the width each region's centre lies in, from 0 at the left.

    Args:
        regions: (N, F) region inputs; x1/W and x2/W stand 6 and 4 places before their end.
        num_places: Equal parts.
    """
    centres = (regions[:, -NUM_BOX_NUMBERS] + regions[:, -NUM_BOX_NUMBERS + 2]) / 2
    return np.clip((centres * num_places).astype(np.int64), 0, num_places - 1)
