"""Captions and images side by side.

Letters: B examples, P pairs of a caption and an image.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from oscar_core.packing import EncoderInput, Layout, PackedBatch, pack
from oscar_core.task import Knowledge
from oscar_core.tasks.retrieval.records import Config, Example, Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Pairs, example by example: caption by caption, each with every image.

    labels: (P,) int64  1 where caption and image belong together
    """

    packed: PackedBatch
    labels: Tensor
    examples: tuple[Example, ...]

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on a device."""
        return replace(self, packed=self.packed.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, slots=True)
class _Pair:
    text: str
    number: int
    is_own: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Captions, each to be seen with every candidate image of their pool.

    There may be thousands of candidates, so pairs are laid out a few at a time.
    """

    config: Config
    knowledge: Knowledge
    examples: tuple[Example, ...]
    device: torch.device | str = "cpu"

    def to(self, device: torch.device | str) -> "Ranking":
        """The same, laid out on a device."""
        return replace(self, device=device)

    def parts(self, num_pairs: int) -> Iterator[PackedBatch]:
        """All pairs, caption by caption, at most so many at once."""
        pairs = (
            _Pair(example.text, number, number == example.number)
            for example in self.examples
            for number in range(len(example.pool.image_ids))
        )
        while part := list(islice(pairs, num_pairs)):
            packed = _packed(self.config, self.knowledge, part, self.examples[0].pool)
            yield packed.to(self.device)


def collate(
    config: Config,
    knowledge: Knowledge,
    examples: Sequence[Example],
    generators: Sequence[np.random.Generator] | None,
) -> Batch | Ranking:
    """Draw what each caption is told from; without generators, every candidate image."""
    if generators is None:
        return Ranking(config=config, knowledge=knowledge, examples=tuple(examples))
    pairs: list[_Pair] = []
    for example, generator in zip(examples, generators, strict=True):
        if config.group_size:
            pairs += _group(config, example, generator)
        else:
            pairs += _two(example, generator)
    return Batch(
        packed=_packed(config, knowledge, pairs, examples[0].pool),
        labels=torch.tensor([int(pair.is_own) for pair in pairs]),
        examples=tuple(examples),
    )


def _packed(
    config: Config, knowledge: Knowledge, pairs: Sequence[_Pair], pool: Pool
) -> PackedBatch:
    layout = Layout(
        max_text=config.max_text,
        max_regions=config.view.max_regions,
        pad_to_longest=True,
        cut="second",
    )
    inputs = []
    for pair in pairs:
        view = pool.views[pool.image_ids[pair.number]]
        inputs.append(EncoderInput(text_a=pair.text, text_b=view.tags, regions=view.regions))
    return pack(inputs, knowledge.tokenizer, layout, config.packing_compat)


def _two(example: Example, draw: np.random.Generator) -> list[_Pair]:
    """The caption with its image, then one of both exchanged.

    Source: `oscar/run_retrieval.py:RetrievalDataset.__getitem__`.
    """
    pool, right = example.pool, example.number
    other = _another(pool, {right}, draw)
    wrong = _Pair(example.text, other, is_own=False)
    if draw.random() <= 0.5:
        captions = pool.captions[other]
        wrong = _Pair(captions[int(draw.integers(len(captions)))], right, is_own=False)
    return [_Pair(example.text, right, is_own=True), wrong]


def _group(config: Config, example: Example, draw: np.random.Generator) -> list[_Pair]:
    """Every caption of a group with every image of it."""
    pool, numbers, texts = example.pool, [example.number], [example.text]
    size = min(config.group_size, len(pool.image_ids))
    while len(numbers) < size:
        drawn = [_another(pool, set(numbers), draw) for _ in range(config.num_tries)]
        numbers.append(max(drawn, key=lambda i: _likeness(pool, example.number, i)))
        captions = pool.captions[numbers[-1]]
        texts.append(captions[int(draw.integers(len(captions)))])
    return [
        _Pair(text, number, is_own=row == column)
        for row, text in enumerate(texts)
        for column, number in enumerate(numbers)
    ]


def _likeness(pool: Pool, one: int, other: int) -> float:
    """Shared words of all words of two images' captions."""
    return len(pool.words[one] & pool.words[other]) / len(pool.words[one] | pool.words[other])


def _another(pool: Pool, taken: set[int], draw: np.random.Generator) -> int:
    """An image that is not taken."""
    while True:
        number = int(draw.integers(len(pool.image_ids)))
        if number not in taken:
            return number
