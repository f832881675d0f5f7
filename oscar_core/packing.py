"""Lays out text and regions as one batch for the encoder; words and numpy become tensors here.

Letters: B examples, T text positions, R region positions, S = T + R, F region input width,
N regions of one image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oscar_core.compat import OUR_PACKING, PackingCompat
from oscar_core.errors import PackingError
from oscar_core.tokens import Tokenizer

Cut = Literal["longer", "second"]
Sight = Literal["CLR", "CL", "CR", "LR"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderInput:
    """What one pass of the encoder reads.

    text_a:  caption or question
    text_b:  tags joined by blanks, or an answer; "" for none
    regions: (N, F) float32   as `oscar_core.regions.region_inputs` makes them, best first
    """

    text_a: str
    text_b: str = ""
    regions: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How much room there is and who gives way.

    Attributes:
        max_text: T, all wordpieces with [CLS] and [SEP].
        max_regions: R; more regions are cut, fewer are filled with hidden zero rows.
        max_text_a: Captions only: slots of the caption, behind which the tags start.
        tag_position: Captions only: position id of the first tag; None for `max_text_a`.
        pad_to_longest: Let T and R shrink to the longest of the batch; same results, less work.
        cut: What to shorten when both texts do not fit: always the "longer" one (pretraining,
            VQA, GQA, NLVR2), or the "second" (retrieval).
        sight: Which parts see one another: caption C, labels (tags) L, regions R; "CLR" is all.
    """

    max_text: int
    max_regions: int
    max_text_a: int = 0
    tag_position: int | None = None
    pad_to_longest: bool = False
    cut: Cut = "longer"
    sight: Sight = "CLR"

    def __post_init__(self) -> None:
        """Refuse lengths that leave no room."""
        if self.max_text < 3 or self.max_regions < 0:
            raise PackingError(
                f"max_text {self.max_text} and max_regions {self.max_regions}: "
                "need at least 3 and 0"
            )
        if self.max_text_a and not 3 <= self.max_text_a <= self.max_text:
            raise PackingError(
                f"max_text_a {self.max_text_a} must lie in 3..max_text ({self.max_text})"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedBatch:
    """Every tensor the encoder needs, and no more.

    input_ids:       (B, T) int64
    token_type_ids:  (B, T) int64    0 for the first text, 1 for the second
    attention_mask:  (B, S) or (B, S, S) by query and key, bool; True = visible
    region_features: (B, R, F) float32
    position_ids:    (B, T) int64, or None for 0..T-1
    """

    input_ids: Tensor
    token_type_ids: Tensor
    attention_mask: Tensor
    region_features: Tensor
    position_ids: Tensor | None = None

    def __len__(self) -> int:
        return len(self.input_ids)

    def to(self, device: torch.device | str) -> Self:
        """The same batch on a device."""
        return self._each(lambda tensor: tensor.to(device))

    def rows(self, indices: Tensor) -> Self:
        """Some of the examples, in the order of `indices` (n,) int64."""
        return self._each(lambda tensor: tensor[indices])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        return type(self)(
            input_ids=change(self.input_ids),
            token_type_ids=change(self.token_type_ids),
            attention_mask=change(self.attention_mask),
            region_features=change(self.region_features),
            position_ids=None if self.position_ids is None else change(self.position_ids),
        )


@dataclass(frozen=True, slots=True)
class TextRow:
    """Ids of one example: `first` with [CLS] and [SEP], `second` with its [SEP] or empty."""

    first: list[int]
    second: list[int]


def pack(
    inputs: Sequence[EncoderInput],
    tokenizer: Tokenizer,
    layout: Layout,
    compat: PackingCompat = OUR_PACKING,
) -> PackedBatch:
    """Lay out `[CLS] a [SEP] b [SEP]`, padding, then the regions.

    Without b there is no second [SEP]. Padding has id 0, token type 0 and is hidden.

    Raises:
        PackingError: No inputs, or regions of different widths.

    Source: `run_vqa.py` and `run_retrieval.py`, `tensorize_example`.
    """
    rows = [
        text_row(tokenizer.ids(one.text_a), one.text_b, tokenizer, layout, compat) for one in inputs
    ]
    return _assemble(rows, [one.regions for one in inputs], tokenizer, layout)


def pack_pairs(
    pairs: Sequence[tuple[EncoderInput, EncoderInput]],
    tokenizer: Tokenizer,
    layout: Layout,
    compat: PackingCompat = OUR_PACKING,
) -> PackedBatch:
    """Lay out two images for each statement: row 2 i the first of pair i, row 2 i + 1 the second.

    Args:
        pairs: Both inputs of a pair have the same `text_a`.
        tokenizer: Of the model.
        layout: Of one image.
        compat: See `cuts_text_of_next_image`.

    Source: `run_nlvr.py:tensorize_example`, `--use_pair`.
    """
    rows = []
    for first, second in pairs:
        ids = tokenizer.ids(first.text_a)
        rows.append(text_row(ids, first.text_b, tokenizer, layout, compat))
        if compat.cuts_text_of_next_image:
            ids = rows[-1].first[1:-1]
        rows.append(text_row(ids, second.text_b, tokenizer, layout, compat))
    return _assemble(rows, [one.regions for pair in pairs for one in pair], tokenizer, layout)


def text_row(
    ids: list[int], text_b: str, tokenizer: Tokenizer, layout: Layout, compat: PackingCompat
) -> TextRow:
    """Cut two texts to the room they have and put [CLS] and [SEP] around them."""
    if layout.cut == "second":
        return _second_gives_way(ids, text_b, tokenizer, layout, compat)
    ids_b = tokenizer.ids(text_b)
    num_a, num_b = len(ids), len(ids_b)
    if ids_b:
        num_a, num_b = lengths_that_fit(num_a, num_b, layout.max_text - 3)
    else:
        num_a = min(num_a, layout.max_text - 2)
    second = [*ids_b[:num_b], tokenizer.sep_id] if num_b else []
    return TextRow([tokenizer.cls_id, *ids[:num_a], tokenizer.sep_id], second)


def lengths_that_fit(num_a: int, num_b: int, room: int) -> tuple[int, int]:
    """Take tokens off the longer text, off b when both are equal, until both fit together.

    Source: `oscar/utils/task_utils.py:_truncate_seq_pair`.
    """
    excess = max(0, num_a + num_b - room)
    from_a = min(excess, max(0, num_a - num_b))
    from_b = min(excess, max(0, num_b - num_a))
    rest = excess - from_a - from_b
    return num_a - from_a - rest // 2, num_b - from_b - (rest - rest // 2)


def _second_gives_way(
    ids: list[int], text_b: str, tokenizer: Tokenizer, layout: Layout, compat: PackingCompat
) -> TextRow:
    first = [tokenizer.cls_id, *ids[: layout.max_text - 2], tokenizer.sep_id]
    if not text_b:
        return TextRow(first, [])
    room = layout.max_text - len(first) - 1
    ids_b = tokenizer.ids(text_b)
    if room < 0 and not compat.overflows_with_tags:
        return TextRow(first, [])
    if len(ids_b) > room:
        ids_b = ids_b[:room]
    return TextRow(first, [*ids_b, tokenizer.sep_id])


def _assemble(
    rows: Sequence[TextRow],
    regions: Sequence[NDArray[np.float32]],
    tokenizer: Tokenizer,
    layout: Layout,
) -> PackedBatch:
    """Both texts of each row side by side."""
    num_first = np.array([len(row.first) for row in rows], dtype=np.int64)
    num_second = np.array([len(row.second) for row in rows], dtype=np.int64)
    features, num_regions = stack_regions(regions, layout)
    longest = int((num_first + num_second).max())
    num_text = longest if layout.pad_to_longest else max(layout.max_text, longest)
    parts = Parts(
        num_first=num_first,
        second_start=num_first,
        num_second=num_second,
        num_text=num_text,
        num_regions=num_regions,
        num_region_slots=features.shape[1],
    )
    input_ids, token_type_ids = parts.fill(rows, tokenizer.pad_id)
    return PackedBatch(
        input_ids=torch.from_numpy(input_ids),
        token_type_ids=torch.from_numpy(token_type_ids),
        attention_mask=torch.from_numpy(parts.mask(layout.sight)),
        region_features=torch.from_numpy(features),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Which positions of a batch belong to the first text, the second text and the regions.

    num_first, second_start, num_second, num_regions: (B,) int64
    """

    num_first: NDArray[np.int64]
    second_start: NDArray[np.int64]
    num_second: NDArray[np.int64]
    num_text: int
    num_regions: NDArray[np.int64]
    num_region_slots: int

    def fill(
        self, rows: Sequence[TextRow], pad_id: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids and token types, (B, T) each."""
        ids = np.full((len(rows), self.num_text), pad_id, dtype=np.int64)
        first, second, _ = self.positions()
        ids[first[:, : self.num_text]] = [i for row in rows for i in row.first]
        ids[second[:, : self.num_text]] = [i for row in rows for i in row.second]
        return ids, second[:, : self.num_text].astype(np.int64)

    def positions(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """Positions of first text, second text and regions; three of (B, S)."""
        column = np.arange(self.num_text + self.num_region_slots)
        first = column < self.num_first[:, None]
        start = self.second_start[:, None]
        second = (column >= start) & (column < start + self.num_second[:, None])
        regions = (column >= self.num_text) & (column < self.num_text + self.num_regions[:, None])
        return first, second, regions

    def mask(self, sight: Sight) -> NDArray[np.bool_]:
        """What sees what: (B, S) where all see all, else (B, S, S)."""
        first, second, regions = self.positions()
        if sight == "CLR":
            return first | second | regions
        pair = {"C": first, "L": second, "R": regions}
        alone = [part[:, :, None] & part[:, None, :] for part in pair.values()]
        one, other = pair[sight[0]], pair[sight[1]]
        both = one | other
        together = both[:, :, None] & both[:, None, :]
        mask: NDArray[np.bool_] = np.logical_or.reduce([*alone, together])
        return mask


def stack_regions(
    regions: Sequence[NDArray[np.float32]], layout: Layout
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Regions of all images, cut and filled to (B, R, F), and how many of each are real.

    Raises:
        PackingError: No images, or feature widths that differ.
    """
    if not regions:
        raise PackingError("a batch needs at least one example")
    widths = {rows.shape[1] for rows in regions}
    if len(widths) > 1:
        raise PackingError(f"regions of widths {sorted(widths)} in one batch; one detector each")
    num_regions = np.array([min(len(rows), layout.max_regions) for rows in regions], np.int64)
    slots = int(num_regions.max()) if layout.pad_to_longest else layout.max_regions
    features = np.zeros((len(regions), slots, widths.pop()), dtype=np.float32)
    for filled, rows, num in zip(features, regions, num_regions, strict=True):
        filled[:num] = rows[:num]
    return features, num_regions
