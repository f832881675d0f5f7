"""Everything that changes while a model learns."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from oscar_core.training.config import TrainingConfig
from oscar_core.training.optimiser import PublishedAdamW, build_optimiser
from oscar_core.training.precision import LossScale
from oscar_core.training.sharding import own_part, part_of, whole

MOMENTS = ("mean", "square")
"""What the optimiser remembers of each parameter, besides its age."""


class MovingAverage:
    """a = d * a + (1 - d) * w after every update, for every weight that is learned."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {
            name: own_part(parameter).detach().clone()
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }

    @torch.no_grad()
    def follow(self, model: nn.Module) -> None:
        """Take in the weights after an update."""
        named = dict(model.named_parameters())
        weights = [own_part(named[name]) for name in self.values]
        torch._foreach_lerp_(list(self.values.values()), weights, 1 - self.decay)

    @torch.no_grad()
    def replace_weights(self, model: nn.Module) -> None:
        """Put the average in place of the weights."""
        named = dict(model.named_parameters())
        for name, value in self.values.items():
            own_part(named[name]).copy_(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Learner:
    """A model and what its training remembers.

    average: of its weights, where one is kept
    scale:   of the loss
    """

    model: nn.Module
    optimiser: PublishedAdamW
    average: MovingAverage | None
    scale: LossScale

    def ages(self) -> dict[str, int]:
        """How often each parameter was updated; without those that never were."""
        state = self.optimiser.state
        named = self.model.named_parameters()
        return {name: state[each]["step"] for name, each in named if state.get(each)}

    def values(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Every tensor to be kept, tied ones once.

        Returns:
            Name -> (what this process holds of it, the parameter that tells how it is spread).
        """
        named = dict(self.model.named_parameters())
        held = named | dict(self.model.named_buffers())
        found = {f"model.{name}": (own_part(each), each) for name, each in held.items()}
        for name in self.ages():
            state = self.optimiser.state[named[name]]
            found |= {f"{each}.{name}": (state[each], named[name]) for each in MOMENTS}
        if self.average is not None:
            for name, value in self.average.values.items():
                found[f"average.{name}"] = (value, named[name])
        return found

    def remember(self, ages: Mapping[str, int]) -> None:
        """Make room for the moments of parameters of these ages, so that `values` has them."""
        for name, parameter in self.model.named_parameters():
            if name in ages:
                state = self.optimiser.state[parameter]
                state["step"] = ages[name]
                for each in MOMENTS:
                    state.setdefault(each, torch.zeros_like(own_part(parameter)))


def new_learner(model: nn.Module, training: TrainingConfig) -> Learner:
    """Before the first update."""
    return Learner(
        model=model,
        optimiser=build_optimiser(model, training),
        average=MovingAverage(model, training.ema) if training.ema > 0 else None,
        scale=LossScale(training.precision),
    )


@torch.no_grad()
def spread_over(before: Mapping[str, Tensor], learner: Learner) -> None:
    """Give a learner whose model has just been sharded its part of what was whole before.

    Args:
        before: Name -> whole tensor, as `Learner.values` names them.
        learner: Its moments have room, see `Learner.remember`.
    """
    for name, (part, like) in learner.values().items():
        if name in before:
            part.copy_(part_of(before[name], like))


def gathered(learner: Learner) -> dict[str, Tensor]:
    """Every tensor of `Learner.values`, whole; all processes call it alike where it is sharded."""
    return {name: whole(part.detach(), like) for name, (part, like) in learner.values().items()}
