"""Lays out captions: seq2seq sight, tags behind a fixed number of slots, masked words to learn.

A caption word sees the words before it, all tags and all regions; tags and regions see one
another and never the caption.

Letters: B examples, T text positions, R region positions, S = T + R, M most masked words.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oscar_core.compat import OUR_PACKING, PackingCompat
from oscar_core.errors import PackingError
from oscar_core.packing import EncoderInput, Layout, PackedBatch, Parts, TextRow, stack_regions
from oscar_core.tokens import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionMasking:
    """How many words of a caption are masked. Source: `run_captioning.py` defaults.

    Attributes:
        probability: Share of the caption's tokens, [CLS] and [SEP] counted.
        max_masked: M, at most this many.
    """

    probability: float = 0.15
    max_masked: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionBatch:
    """Captions as the encoder reads them, and what is to be learned of them.

    packed:        its mask is (B, S, S)
    caption_slots: text positions before the tags
    masked:        (B, T) bool     positions whose word is to be told
    masked_ids:    (B, M) int64    the words there, by position, filled with 0
    """

    packed: PackedBatch
    caption_slots: int
    masked: Tensor
    masked_ids: Tensor

    def __len__(self) -> int:
        return len(self.packed)

    def to(self, device: torch.device | str) -> "CaptionBatch":
        """The same batch on a device."""
        return CaptionBatch(
            packed=self.packed.to(device),
            caption_slots=self.caption_slots,
            masked=self.masked.to(device),
            masked_ids=self.masked_ids.to(device),
        )

    def targets(self) -> Tensor:
        """The masked words of all captions in a row: (number masked,) int64."""
        counts = self.masked.sum(dim=1, keepdim=True)
        place = torch.arange(self.masked_ids.shape[1], device=counts.device)
        return self.masked_ids[place < counts]


def generation_layout(layout: Layout, max_length: int) -> Layout:
    """The layout for generating up to `max_length` tokens with a model trained with `layout`.

    Tags keep the room and, unless the caption is longer than in training, the position ids that
    they had in training.

    Source: `run_captioning.py:restore_training_settings`; `specs/tasks.md` 3.1.
    """
    return Layout(
        max_text=max_length + layout.max_text - layout.max_text_a,
        max_text_a=max_length,
        max_regions=layout.max_regions,
        tag_position=max(layout.max_text_a, max_length),
        pad_to_longest=layout.pad_to_longest,
    )


def pack_captions(
    inputs: Sequence[EncoderInput],
    tokenizer: Tokenizer,
    layout: Layout,
    masking: CaptionMasking,
    draws: Iterable[random.Random],
    compat: PackingCompat = OUR_PACKING,
) -> CaptionBatch:
    """Lay out captions to learn from; `text_a` is the caption, `text_b` the tags.

    Args:
        inputs: One example each.
        tokenizer: Of the model.
        layout: With `max_text_a`.
        masking: How many words are masked.
        draws: One generator per example.
        compat: See `draws_one_past_vocabulary` and `shortens_masked_ids`.

    Raises:
        PackingError: No inputs, no `max_text_a`, or regions of different widths.

    Source: `run_captioning.py:CaptionTensorizer`.
    """
    _need_caption_slots(layout)
    rows, places, labels = [], [], []
    for one, draw in zip(inputs, draws, strict=False):
        first = _caption(tokenizer.ids(one.text_a), tokenizer, layout)
        wanted = _num_masked(len(first), masking)
        masked = _mask(first, wanted, tokenizer, draw, compat)
        width = masking.max_masked
        if compat.shortens_masked_ids:
            width += len(masked) - wanted
        rows.append(TextRow(first, _tags(one.text_b, tokenizer, layout)))
        places.append(list(masked))
        labels.append([*masked.values()] + [0] * (width - len(masked)))
    if len(rows) != len(inputs):
        raise PackingError(f"{len(inputs)} captions but only {len(rows)} generators to mask them")
    packed, slots = _assemble(rows, inputs, tokenizer, layout)
    is_masked = np.zeros(packed.input_ids.shape, dtype=np.bool_)
    row_of = np.repeat(np.arange(len(rows)), [len(row) for row in places])
    is_masked[row_of, [place for row in places for place in row]] = True
    return CaptionBatch(
        packed=packed,
        caption_slots=slots,
        masked=torch.from_numpy(is_masked),
        masked_ids=torch.tensor(labels, dtype=torch.int64),
    )


def pack_prompts(
    inputs: Sequence[EncoderInput], tokenizer: Tokenizer, layout: Layout
) -> CaptionBatch:
    """Lay out images to be described: slots of [MASK] between [CLS] and [SEP], then the tags.

    `text_a` is not read. `layout` comes from `generation_layout`; its slots are never shortened.

    Raises:
        PackingError: No inputs, no `max_text_a`, or regions of different widths.
    """
    _need_caption_slots(layout)
    slots = [tokenizer.mask_id] * (layout.max_text_a - 2)
    first = _caption(slots, tokenizer, layout)
    rows = [TextRow(first, _tags(one.text_b, tokenizer, layout)) for one in inputs]
    packed, num_slots = _assemble(rows, inputs, tokenizer, layout)
    return CaptionBatch(
        packed=packed,
        caption_slots=num_slots,
        masked=torch.ones_like(packed.input_ids, dtype=torch.bool),
        masked_ids=torch.zeros((len(inputs), 0), dtype=torch.int64),
    )


def _need_caption_slots(layout: Layout) -> None:
    if not layout.max_text_a:
        raise PackingError("captions need a layout with max_text_a, the slots before the tags")


def _caption(ids: list[int], tokenizer: Tokenizer, layout: Layout) -> list[int]:
    return [tokenizer.cls_id, *ids[: layout.max_text_a - 2], tokenizer.sep_id]


def _tags(text: str, tokenizer: Tokenizer, layout: Layout) -> list[int]:
    room = layout.max_text - layout.max_text_a - 1
    if not text or room < 0:
        return []
    return [*tokenizer.ids(text)[:room], tokenizer.sep_id]


def _num_masked(num_tokens: int, masking: CaptionMasking) -> int:
    """Count to mask; Python's `round` takes halves to the even number, as the original does."""
    return min(max(round(masking.probability * num_tokens), 1), masking.max_masked)


def _mask(
    ids: list[int],
    wanted: int,
    tokenizer: Tokenizer,
    draw: random.Random,
    compat: PackingCompat,
) -> dict[int, int]:
    """Mask some of `ids` in place; [CLS] never, the closing [SEP] may be.

    Of the masked ones 4 in 5 become [MASK], 1 in 10 any word, 1 in 10 stays.

    Returns:
        The original id by position, positions ascending.
    """
    candidates = list(range(1, len(ids)))
    draw.shuffle(candidates)
    masked = {place: ids[place] for place in sorted(candidates[:wanted])}
    past = len(tokenizer)
    for place in masked:
        if draw.random() <= 0.8:
            ids[place] = tokenizer.mask_id
        elif draw.random() <= 0.5:
            last = past if compat.draws_one_past_vocabulary else past - 1
            drawn = draw.randint(0, last)
            ids[place] = tokenizer.unk_id if drawn == past else drawn
    return masked


def _assemble(
    rows: Sequence[TextRow],
    inputs: Sequence[EncoderInput],
    tokenizer: Tokenizer,
    layout: Layout,
) -> tuple[PackedBatch, int]:
    """The batch, and how many text positions come before the tags."""
    features, num_regions = stack_regions([one.regions for one in inputs], layout)
    num_first = np.array([len(row.first) for row in rows], dtype=np.int64)
    num_second = np.array([len(row.second) for row in rows], dtype=np.int64)
    slots, num_text = layout.max_text_a, layout.max_text
    if layout.pad_to_longest:
        slots = int(num_first.max())
        num_text = slots + int(num_second.max())
    parts = Parts(
        num_first=num_first,
        second_start=np.full_like(num_first, slots),
        num_second=num_second,
        num_text=num_text,
        num_regions=num_regions,
        num_region_slots=features.shape[1],
    )
    input_ids, token_type_ids = parts.fill(rows, tokenizer.pad_id)
    packed = PackedBatch(
        input_ids=torch.from_numpy(input_ids),
        token_type_ids=torch.from_numpy(token_type_ids),
        attention_mask=torch.from_numpy(_seq2seq_mask(parts)),
        region_features=torch.from_numpy(features),
        position_ids=_position_ids(layout, slots, input_ids.shape),
    )
    return packed, slots


def _seq2seq_mask(parts: Parts) -> NDArray[np.bool_]:
    """(B, S, S): captions look back and at the context, the context at itself."""
    caption, tags, regions = parts.positions()
    context = tags | regions
    anything = caption | context
    size = caption.shape[1]
    look_back = np.tri(size, dtype=np.bool_)
    mask = caption[:, :, None] & caption[:, None, :]
    mask &= look_back
    mask |= anything[:, :, None] & context[:, None, :]
    return mask


def _position_ids(layout: Layout, slots: int, shape: tuple[int, ...]) -> Tensor | None:
    """(B, T) with the tags' own start, or None where 0..T-1 says the same."""
    start = layout.max_text_a if layout.tag_position is None else layout.tag_position
    if start == slots:
        return None
    places = torch.arange(shape[1])
    places[slots:] += start - slots
    return places.expand(shape[0], -1)
