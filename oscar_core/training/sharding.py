"""Weights, gradients and moments of the encoder's layers divided among the processes (FSDP2).

A layer's weights are gathered when it computes and given up again after it. What a checkpoint or
a model folder holds is always whole, so a training may go on with another number of processes,
or without sharding. Embeddings, pooler and heads stay whole in every process: heads read the word
embedding without calling its module, which is all that sharding would see.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from oscar_core.errors import TrainingError


def own_part(value: Tensor) -> Tensor:
    """What this process holds of a sharded tensor, in the same memory; others as they are."""
    with torch.no_grad():
        return value.to_local() if isinstance(value, DTensor) else value


def whole(part: Tensor, like: Tensor) -> Tensor:
    """Gather a tensor of which each process holds a part; all call it alike.

    Args:
        part: What this process holds, as `own_part` gives it.
        like: The parameter it belongs to; what is not sharded is returned as it is.
    """
    if not isinstance(like, DTensor):
        return part
    spread = DTensor.from_local(
        part,
        like.device_mesh,
        like.placements,
        shape=like.shape,
        stride=like.stride(),
        run_check=False,
    )
    return spread.full_tensor()


def part_of(value: Tensor, like: Tensor) -> Tensor:
    """The part of a whole tensor that this process is to hold; no message is sent."""
    if not isinstance(like, DTensor):
        return value
    spread = distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
    return spread.to_local().clone()


def is_sharded(model: nn.Module) -> bool:
    """Whether any of its parameters is divided among processes."""
    return any(isinstance(each, DTensor) for each in model.parameters())


def shard_layers(layers: Iterable[nn.Module], device: torch.device, num: int) -> None:
    """Divide the weights of each layer among all processes, in place.

    Args:
        layers: Of the encoder; every process holds the same values.
        device: That this process computes on.
        num: Processes, more than one.

    Raises:
        TrainingError: One process alone has nobody to share with.
    """
    if num < 2:
        raise TrainingError("sharding fsdp2 needs several processes; set scale.workers, or none")
    mesh = init_device_mesh(device.type, (num,))
    for layer in layers:
        divided = fully_shard(layer, mesh=mesh, reshard_after_forward=True)
        divided.set_force_sum_reduction_for_comms(True)  # a product with 1 is not for gloo
        divided.set_gradient_divide_factor(1.0)  # parts are weighted by the loop


def gather_weights(model: nn.Module) -> None:
    """Make every parameter whole again, in every process; the model is trained no further."""
    for part in model.modules():
        for name, value in list(part.named_parameters(recurse=False)):
            if isinstance(value, DTensor):
                full = nn.Parameter(value.full_tensor().detach(), requires_grad=value.requires_grad)
                part.register_parameter(name, full)
