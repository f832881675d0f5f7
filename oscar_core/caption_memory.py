"""Next-word logits of captions that grow word by word.

Tags and regions never see the caption and a word never sees later ones, so what a layer's queries
look at can be kept: for tags and regions once an image, for words once a row. The next word is
read at a [MASK] behind the last word, which nothing remembers.

Letters: B images, E rows (sentences) an image, n = B * E rows in image order, c words so far with
[CLS], P positions of tags and regions, A heads, H hidden width, V vocabulary size.
"""

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from oscar_core.attention import MASKED, additive_mask
from oscar_core.caption_packing import CaptionBatch
from oscar_core.layers import EncoderLayer, KeysAndValues
from oscar_core.models import CaptionModel
from oscar_core.packing import PackedBatch


class CaptionSteps(Protocol):
    """Anything that tells the next word of every row."""

    def next_logits(self, ids: Tensor) -> Tensor:
        """(n, c) int64 -> (n, V) float32; `ids` is one word longer at each call."""
        ...

    def reorder(self, parents: Tensor) -> None:
        """From now on row i continues what was row parents[i]; (n,) int64."""
        ...


class CaptionMemory:
    """Remembers keys and values; each call computes two positions a row.

    Source: `specs/tasks.md` 3.3, with keys and values in place of layer inputs.
    """

    def __init__(
        self,
        model: CaptionModel,
        prompts: CaptionBatch,
        mask_id: int,
        rows_per_image: int = 1,
        *,
        keeps_order: bool = False,
    ) -> None:
        """Look at tags and regions.

        Args:
            model: In evaluation mode.
            prompts: As `pack_prompts` made them.
            mask_id: Of [MASK].
            rows_per_image: E.
            keeps_order: Only the newest word follows its row (compat C7).
        """
        self._model = model
        self._encoder = model.encoder
        self._mask_id = mask_id
        self._rows_per_image = rows_per_image
        self._keeps_order = keeps_order
        self._context, self._bias = _look_at_context(model, prompts)
        self._words: list[KeysAndValues] = []

    def next_logits(self, ids: Tensor) -> Tensor:
        """(n, c) int64 -> (n, V) float32."""
        count = ids.shape[1]
        last = ids[:, -1:]
        pair = torch.cat([last, torch.full_like(last, self._mask_id)], dim=1)
        positions = torch.tensor([[count - 1, count]], device=ids.device)
        states = self._encoder.embed_text(pair, None, positions)
        words: list[KeysAndValues] = []
        for number, layer in enumerate(self._encoder.each_layer()):
            new = self._encoder.keys_and_values(layer, states)
            seen = self._words[number].extended(new) if self._words else new
            context = self._attend(layer, states, self._context[number], seen)
            states = self._encoder.finish_layer(layer, states, context)
            words.append(KeysAndValues(keys=seen.keys[:, :, :-1], values=seen.values[:, :, :-1]))
        self._words = words
        return self._model.words(states[:, 1])

    def reorder(self, parents: Tensor) -> None:
        """Let every remembered word (compat C7: the newest only) follow its row."""
        if self._keeps_order:
            for words in self._words:
                words.keys[:, :, -1] = words.keys[parents, :, -1]
                words.values[:, :, -1] = words.values[parents, :, -1]
        else:
            self._words = [
                KeysAndValues(keys=words.keys[parents], values=words.values[parents])
                for words in self._words
            ]

    def _attend(
        self, layer: EncoderLayer, states: Tensor, context: KeysAndValues, words: KeysAndValues
    ) -> Tensor:
        """Attention of two positions a row to the image's context and the row's own words.

        The rows of an image share its context, which is never copied for them.
        """
        queries = self._encoder.queries(layer, states)
        queries = queries / math.sqrt(queries.shape[-1])
        images = len(context.keys)
        together = self._by_image(queries, images)
        to_context = together @ context.keys.transpose(-1, -2) + self._bias
        to_words = queries @ words.keys.transpose(-1, -2)
        to_words[:, :, 0, -1] = MASKED  # the last word does not see [MASK]
        scores = torch.cat([self._by_row(to_context, images), to_words], dim=-1)
        probabilities = scores.softmax(dim=-1)
        num_context = context.keys.shape[2]
        of_context = self._by_image(probabilities[..., :num_context], images) @ context.values
        found = self._by_row(of_context, images) + probabilities[..., num_context:] @ words.values
        return found.transpose(1, 2).flatten(2)

    def _by_image(self, rows: Tensor, images: int) -> Tensor:
        """(B * E, A, 2, x) -> (B, A, E * 2, x)."""
        grouped = rows.reshape(images, self._rows_per_image, *rows.shape[1:])
        return grouped.transpose(1, 2).flatten(2, 3)

    def _by_row(self, grouped: Tensor, images: int) -> Tensor:
        """(B, A, E * 2, x) -> (B * E, A, 2, x)."""
        heads, width = grouped.shape[1], grouped.shape[-1]
        apart = grouped.reshape(images, heads, self._rows_per_image, 2, width)
        return apart.transpose(1, 2).flatten(0, 1)


class PlainCaptionSteps:
    """Encodes everything anew for every word: the formula itself, to compare with.

    Source: `specs/tasks.md` 3.2.
    """

    def __init__(
        self, model: CaptionModel, prompts: CaptionBatch, mask_id: int, rows_per_image: int = 1
    ) -> None:
        every = torch.arange(len(prompts)).repeat_interleave(rows_per_image)
        self._model = model
        self._prompts = prompts.packed.rows(every.to(prompts.packed.input_ids.device))
        self._slots = prompts.caption_slots
        self._mask_id = mask_id

    def next_logits(self, ids: Tensor) -> Tensor:
        """(n, c) int64 -> (n, V) float32."""
        return self.all_logits(ids)[:, ids.shape[1]]

    def all_logits(self, ids: Tensor) -> Tensor:
        """Logits at every text position: words, [MASK], tags; (n, c + 1 + tags, V)."""
        whole = self._prompts
        count = ids.shape[1]
        mask_ids = torch.full_like(ids[:, :1], self._mask_id)
        kept = [*range(count + 1), *range(self._slots, whole.attention_mask.shape[-1])]
        text = [place for place in kept if place < whole.input_ids.shape[1]]
        positions = whole.position_ids
        if positions is None:
            positions = torch.arange(whole.input_ids.shape[1], device=ids.device)[None]
        step = PackedBatch(
            input_ids=torch.cat([ids, mask_ids, whole.input_ids[:, self._slots :]], dim=1),
            token_type_ids=whole.token_type_ids[:, text],
            attention_mask=whole.attention_mask[:, kept][:, :, kept],
            region_features=whole.region_features,
            position_ids=positions[:, text].expand(len(ids), -1),
        )
        logits: Tensor = self._model(step)
        return logits

    def reorder(self, parents: Tensor) -> None:
        """Nothing is remembered, so nothing has to follow."""


def _look_at_context(
    model: CaptionModel, prompts: CaptionBatch
) -> tuple[list[KeysAndValues], Tensor]:
    """Keys and values of tags and regions for each layer, and (B, 1, 1, P) added to scores."""
    packed, slots = prompts.packed, prompts.caption_slots
    visible = packed.attention_mask[:, 0, slots:]
    positions = packed.position_ids
    if positions is None:
        positions = torch.arange(packed.input_ids.shape[1], device=visible.device)[None]
    encoder = model.encoder
    tags = encoder.embed_text(
        packed.input_ids[:, slots:], packed.token_type_ids[:, slots:], positions[:, slots:]
    )
    states = torch.cat([tags, encoder.embed_regions(packed.region_features)], dim=1)
    bias = additive_mask(visible, states.dtype)
    context = []
    for layer in encoder.each_layer():
        seen = encoder.keys_and_values(layer, states)
        context.append(seen)
        queries = encoder.queries(layer, states)
        attended = functional.scaled_dot_product_attention(
            queries, seen.keys, seen.values, attn_mask=bias
        )
        states = encoder.finish_layer(layer, states, attended.transpose(1, 2).flatten(2))
    return context, bias
