"""What the processes of one training share: the beginning, every gradient, every decision.

One process shares with nobody, so that nothing here costs it anything. Several are started by
torchrun; each takes its images of a batch, and their gradients are added up in buckets that never
change, so that a training that goes on after a stop adds in the same order as one that was not
stopped (`DistributedDataParallel` arranges its buckets anew after the first step of a process).
"""

import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn

from detector.training.checkpoint import Checkpoint, checkpoint_bytes, checkpoint_from

PATIENCE = timedelta(minutes=20)
"""How long a process waits for the others before it gives up: they are gone, or stand still."""
_BUCKET = 2**22  # numbers that are added up at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """The processes of a training, seen by one of them.

    num:    how many there are
    number: of this one
    device: that it computes on
    writes: whether it writes files: one process a machine, as each has its own run folder
    """

    num: int = 1
    number: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    writes: bool = True

    def share_of(self, batch: Sequence[Any]) -> range:
        """Positions in a batch that are this process's."""
        return range(self.number, len(batch), self.num)

    def summed(self, numbers: Sequence[float]) -> list[float]:
        """Everybody's numbers added up, place by place."""
        if self.num == 1:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return [float(each) for each in total.tolist()]

    def any_says(self, flag: bool) -> bool:
        """Whether any of them says so."""
        return self.summed([float(flag)])[0] > 0

    def gathered(self, message: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Everybody's message, in the order of the processes; JSON values."""
        if self.num == 1:
            return [dict(message)]
        sent = json.dumps(message).encode()
        length = int(max(self._each(torch.tensor([len(sent)]))))
        padded = torch.frombuffer(bytearray(sent.ljust(length)), dtype=torch.uint8)
        return [json.loads(bytes(each.tolist())) for each in self._each(padded)]

    def share_beginning(self, checkpoint: Checkpoint) -> Checkpoint:
        """Everybody begins with the step, weights and moments of process 0."""
        if self.num == 1:
            return checkpoint
        sent = checkpoint_bytes(checkpoint) if self.number == 0 else b""
        length = torch.tensor([len(sent)], device=self.device)
        distributed.broadcast(length, src=0)
        content = torch.zeros(int(length), dtype=torch.uint8, device=self.device)
        if self.number == 0:
            content.copy_(torch.frombuffer(bytearray(sent), dtype=torch.uint8))
        distributed.broadcast(content, src=0)
        return checkpoint_from(io.BytesIO(content.cpu().numpy().tobytes()))

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up everybody's gradients; what nobody has a gradient for is left without."""
        if self.num == 1:
            return
        trained = [each for each in parameters if each.requires_grad]
        has_one = self.summed([float(each.grad is not None) for each in trained])
        moved = [each for each, num in zip(trained, has_one, strict=True) if num]
        for bucket in _buckets(moved):
            gradients = [
                torch.zeros_like(each) if each.grad is None else each.grad for each in bucket
            ]
            flat = torch.cat([each.reshape(-1) for each in gradients])
            distributed.all_reduce(flat)
            summed = torch.split(flat, [each.numel() for each in bucket])
            for parameter, part in zip(bucket, summed, strict=True):
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                parameter.grad.copy_(part.view_as(parameter))

    def part(self) -> None:
        """Wait for all, then take leave of each other."""
        if self.num > 1:
            distributed.barrier()
            distributed.destroy_process_group()

    def _each(self, mine: Tensor) -> list[Tensor]:
        """Everybody's tensor of one shape, on the CPU."""
        sent = mine.to(self.device)
        received = [torch.zeros_like(sent) for _ in range(self.num)]
        distributed.all_gather(received, sent)
        return [each.cpu() for each in received]


def join(*, alone: bool = False) -> Together:
    """Find the other processes, or none outside torchrun.

    Args:
        alone: Find none whatever torchrun started, and take the threads of all on this machine.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device(f"cuda:{local % torch.cuda.device_count()}")
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Together(device=device)
    if alone:
        torch.set_num_threads(
            torch.get_num_threads() * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        )
        return Together(device=device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    return Together(
        num=distributed.get_world_size(),
        number=distributed.get_rank(),
        device=device,
        writes=local == 0,
    )


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
