"""What the processes of one training share: the beginning, every gradient, every decision.

One process shares with nobody, so that nothing here costs it anything. Several are started by
torchrun. Whatever decides the course of the training is either computed from the same numbers
everywhere or taken from process 0, as two machines may round differently.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor, distributed, nn

from oscar_core.errors import TrainingError
from oscar_core.training.checkpoints import MOMENTS, Place, distinct
from oscar_core.training.optimiser import PublishedAdamW

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

    def share_beginning(self, model: nn.Module, optimiser: PublishedAdamW, at: Place) -> Place:
        """Everybody begins with the weights, moments and place of process 0."""
        if self.num == 1:
            return at
        ages = {
            name: optimiser.state[parameter]["step"]
            for name, parameter in model.named_parameters()
            if optimiser.state.get(parameter)
        }
        first = self.exchange({"place": asdict(at), "ages": ages})[0]
        for value in distinct(model).values():
            _take_first(value)
        for name, parameter in model.named_parameters():
            if name in first["ages"]:
                state = optimiser.state[parameter]
                state["step"] = first["ages"][name]
                for moment in MOMENTS:
                    state.setdefault(moment, torch.zeros_like(parameter))
                    _take_first(state[moment])
        place = first["place"] | {"phase_starts": tuple(first["place"]["phase_starts"])}
        return Place(**place)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up everybody's gradients; what nobody has a gradient for is left without."""
        if self.num == 1:
            return
        trained = [each for each in parameters if each.requires_grad]
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

    def agree(self, flag: bool) -> bool:
        """What process 0 says."""
        return bool(self.exchange({"flag": flag})[0]["flag"])

    def part(self) -> None:
        """Wait for all, then take leave of each other."""
        if self.num > 1:
            distributed.barrier()
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
            lack is averaged over the others.
    """
    names = dict.fromkeys(name for share in shares for name in share)
    totals = {
        name: [sum(each) for each in zip(*(s[name] for s in shares if name in s), strict=True)]
        for name in names
    }
    return {name: total / weight for name, (total, weight) in totals.items()}


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
