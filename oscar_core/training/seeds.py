"""Randomness by name: what is drawn depends on who draws, not on what was drawn before."""

import numpy as np
import torch

_ORDER, _EXAMPLE, _DROPOUT = 1, 2, 3


def seed_weights(seed: int) -> None:
    """Set torch's default generator before a model is built."""
    torch.manual_seed(seed)


def seed_dropout(seed: int, step: int, rank: int = 0) -> None:
    """Set torch's default generator before an update, so that a resumed one drops the same."""
    state = np.random.SeedSequence([_DROPOUT, seed, step, rank]).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0]) >> 1)


def example_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Random source of one example in one pass over the examples."""
    return np.random.default_rng([_EXAMPLE, seed, epoch, index])


def order_generator(seed: int, stream: int, epoch: int) -> np.random.Generator:
    """Random source of the order of one pass over a group; `stream` tells groups apart."""
    return np.random.default_rng([_ORDER, seed, stream, epoch])
