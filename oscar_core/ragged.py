"""One pass of the encoder without padding, and without what nobody reads.

The visible positions of a batch go through every layer in one long row; in the last layer only
the positions that are read go on. The numbers are those of the padded pass.

Letters: B examples, T text positions, S text and region positions, N visible positions of the
batch, M positions that are read, n of them wanted, H hidden width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from oscar_core.encoder import OscarEncoder
from oscar_core.errors import PackingError
from oscar_core.layers import Attend, EncoderLayer
from oscar_core.packing import PackedBatch
from oscar_core.ragged_attention import attend


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What was read of the encoder's output.

    wanted: (n, H) float32  at the positions asked for, example by example
    pooled: (B, H) float32  tanh of a linear map of position 0
    """

    wanted: Tensor
    pooled: Tensor


def read(encoder: OscarEncoder, batch: PackedBatch, wanted: Tensor) -> Read:
    """Encode a batch and read it at some positions.

    Args:
        encoder: In whatever mode it is.
        batch: Every position sees every visible one: its mask is (B, S).
        wanted: (B, S) bool, positions to read; visible ones.

    Raises:
        PackingError: The mask is not (B, S), the first position of an example is hidden, or a
            hidden position is wanted.
    """
    is_visible = batch.attention_mask.bool()
    if is_visible.dim() != 2 or not bool(is_visible[:, 0].all()):
        raise PackingError(
            f"attention mask {tuple(is_visible.shape)}: to leave out padding, each example needs "
            "a row of it, and its first position visible"
        )
    if bool((wanted & ~is_visible).any()):
        raise PackingError("a position that the attention mask hides has nothing to read")
    is_read = wanted.clone()
    is_read[:, 0] = True
    states = _embedded(encoder, batch, is_visible)
    num_seen, num_read = is_visible.sum(1).tolist(), is_read.sum(1).tolist()
    for layer in encoder.layers[:-1]:
        states, _ = layer(states, _looking(encoder, states, num_seen, num_seen))
    if len(encoder.layers):
        asking = states[is_read[is_visible]]
        states, _ = encoder.layers[-1](asking, _looking(encoder, states, num_read, num_seen))
    else:
        states = states[is_read[is_visible]]
    firsts = is_read[:, :1].new_zeros(is_read.shape)
    firsts[:, 0] = True
    return Read(
        wanted=states[wanted[is_read]], pooled=encoder.pool(states[firsts[is_read]][:, None])
    )


def _embedded(encoder: OscarEncoder, batch: PackedBatch, is_visible: Tensor) -> Tensor:
    """(N, H): the visible positions of the first example, then of the second, ..."""
    num_text = batch.input_ids.shape[1]
    is_text, is_region = is_visible[:, :num_text], is_visible[:, num_text:]
    positions = batch.position_ids
    if positions is None:
        positions = torch.arange(num_text, device=is_text.device).expand_as(batch.input_ids)
    text = encoder.embed_text(
        batch.input_ids[is_text][None],
        batch.token_type_ids[is_text][None],
        positions[is_text][None],
    )[0]
    regions = encoder.embed_regions(batch.region_features[is_region])
    order = torch.empty_like(is_visible, dtype=torch.int64)
    order[:, :num_text][is_text] = torch.arange(len(text), device=order.device)
    order[:, num_text:][is_region] = torch.arange(len(regions), device=order.device) + len(text)
    return torch.cat([text, regions]).index_select(0, order[is_visible])


def _looking(
    encoder: OscarEncoder, seen: Tensor, num_read: Sequence[int], num_seen: Sequence[int]
) -> Attend:
    """How the positions of a layer look at the visible ones, `seen` (N, H)."""
    dropout = encoder.config.attention_dropout if encoder.training else 0.0

    def look(layer: EncoderLayer, asking: Tensor) -> tuple[Tensor, None]:
        maps = layer.attention.self
        context = attend(
            maps.query(asking),
            maps.key(seen),
            maps.value(seen),
            num_heads=layer.num_heads,
            num_queries=num_read,
            num_keys=num_seen,
            dropout=dropout,
        )
        return context, None

    return look
