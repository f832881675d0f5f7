"""What the processes of one training share: the beginning, every gradient, every decision.

One process shares with nobody, so that nothing here costs it anything. Several are started by
torchrun. Whatever decides the course of the training is either computed from the same numbers
everywhere or taken from process 0, as two machines may round differently.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm

from oscar_core.errors import TrainingError
from oscar_core.training.checkpoints import Place
from oscar_core.training.learner import Learner
from oscar_core.training.sharding import own_part

PATIENCE_SECONDS = 600.0
"""How long a process waits for the others before it gives up: they are gone, or stand still."""
_BUCKET = 2**22  # numbers that are summed at once


class Together:
    """The processes of a training, seen by one of them."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.num: int = accelerator.num_processes
        self.number: int = accelerator.process_index
        self.device: torch.device = accelerator.device
        self.writes: bool = accelerator.is_local_main_process
        """Whether this one writes files: one process a machine, as each has its own run folder."""

    def exchange(self, message: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Everybody's message, in the order of the processes; JSON values."""
        if self.num == 1:
            return [dict(message)]
        text = torch.frombuffer(bytearray(json.dumps(message).encode()), dtype=torch.uint8)
        length = torch.tensor([len(text)], device=self.device)
        lengths = [torch.zeros_like(length) for _ in range(self.num)]
        distributed.all_gather(lengths, length)
        room = max(int(each) for each in lengths)
        padded = torch.zeros(room, dtype=torch.uint8, device=self.device)
        padded[: len(text)] = text.to(self.device)
        texts = [torch.zeros_like(padded) for _ in range(self.num)]
        distributed.all_gather(texts, padded)
        return [
            json.loads(bytes(each[: int(num)].tolist()))
            for each, num in zip(texts, lengths, strict=True)
        ]

    def share_beginning(self, learner: Learner, at: Place) -> Place:
        """Everybody begins with the weights, moments and place of process 0."""
        if self.num == 1:
            return at
        mine = {"place": asdict(at), "ages": learner.ages(), "scale": learner.scale.state()}
        first = self.exchange(mine)[0]
        learner.remember(first["ages"])
        learner.scale.restore(first["scale"])
        for value, _ in learner.values().values():
            _take_first(value)
        return Place.from_json(first["place"])

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up everybody's gradients; what nobody has a gradient for is left without.

        Those of sharded parameters were added up when they were computed.
        """
        if self.num == 1:
            return
        trained = [each for each in parameters if each.requires_grad and not _is_spread(each)]
        has_one = torch.tensor([float(each.grad is not None) for each in trained])
        has_one = has_one.to(self.device)
        distributed.all_reduce(has_one)
        moved = [each for each, num in zip(trained, has_one.tolist(), strict=True) if num]
        for bucket in _buckets(moved):
            gradients = [
                torch.zeros_like(each) if each.grad is None else each.grad for each in bucket
            ]
            flat = torch.cat([each.reshape(-1) for each in gradients])
            distributed.all_reduce(flat)
            summed = torch.split(flat, [each.numel() for each in bucket])
            for parameter, part in zip(bucket, summed, strict=True):
                parameter.grad = part.view_as(parameter).clone()

    @torch.no_grad()
    def scale_gradients(
        self, parameters: Iterable[nn.Parameter], limit: float, scale: float = 1.0
    ) -> float:
        """Take back the loss's scale, then cut the gradients of all processes to an L2 norm.

        Args:
            parameters: Their gradients are changed in place.
            limit: The largest norm; 0 leaves it.
            scale: What the loss was multiplied by.

        Returns:
            The norm before it was cut; not finite if any gradient is not.

        Source: factor limit / (norm + 1e-6) where it is below 1, `torch.nn.utils.clip_grad_norm_`.
        """
        moved = [each for each in parameters if each.grad is not None]
        gradients = [own_part(cast(Tensor, each.grad)) for each in moved]
        if not gradients:
            return 0.0
        spread = [g for g, each in zip(gradients, moved, strict=True) if _is_spread(each)]
        same = [g for g, each in zip(gradients, moved, strict=True) if not _is_spread(each)]
        norm = get_total_norm(same) if same else torch.zeros((), device=self.device)
        if spread:
            squared = get_total_norm(spread) ** 2
            distributed.all_reduce(squared)
            norm = (norm**2 + squared).sqrt()
        found = float(norm) / scale
        factor = min(1.0, limit / (found + 1e-6)) if limit > 0 and math.isfinite(found) else 1.0
        if factor / scale != 1.0:
            torch._foreach_mul_(gradients, factor / scale)
        return found

    def agree(self, flag: bool) -> bool:
        """What process 0 says."""
        return bool(self.exchange({"flag": flag})[0]["flag"])

    def wait(self) -> None:
        """Until all are here."""
        if self.num > 1:
            distributed.barrier()

    def part(self) -> None:
        """Wait for all, then take leave of each other."""
        self.wait()
        if self.num > 1:
            distributed.destroy_process_group()


def join() -> Together:
    """Find the other processes, or none outside torchrun.

    Raises:
        TrainingError: torchrun started several and they did not find each other.
    """
    wanted = int(os.environ.get("WORLD_SIZE", "1"))
    # without cpu=True a machine without accelerator trains alone, whatever torchrun started
    patience = InitProcessGroupKwargs(timeout=timedelta(seconds=PATIENCE_SECONDS))
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(), kwargs_handlers=[patience] if wanted > 1 else []
    )
    if accelerator.num_processes != wanted:
        raise TrainingError(
            f"{accelerator.num_processes} processes train together, torchrun started {wanted}"
        )
    return Together(accelerator)


def merged(shares: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, float]:
    """Losses by name over all parts of a batch.

    Args:
        shares: name -> (weighted sum, sum of weights), of each process. A name that some parts
            lack is averaged over the others; one that weighs nothing in the whole batch, as
            masked words where none is masked, is left out.
    """
    names = dict.fromkeys(name for share in shares for name in share)
    totals = {
        name: [sum(each) for each in zip(*(s[name] for s in shares if name in s), strict=True)]
        for name in names
    }
    values = {name: total / weight for name, (total, weight) in totals.items() if weight}
    return values if "total" not in totals else {"total": 0.0} | values


def _is_spread(parameter: nn.Parameter) -> bool:
    return isinstance(parameter, DTensor)


def _take_first(value: Tensor) -> None:
    """Overwrite a tensor with that of process 0."""
    with torch.no_grad():
        buffer = value.detach().contiguous()
        distributed.broadcast(buffer, src=0)
        value.copy_(buffer)


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Parameters in groups of about `_BUCKET` numbers: few messages, little memory."""
    bucket: list[nn.Parameter] = []
    size = 0
    for each in parameters:
        bucket.append(each)
        size += each.numel()
        if size >= _BUCKET:
            yield bucket
            bucket, size = [], 0
    if bucket:
        yield bucket
