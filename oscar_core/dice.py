"""What the random choices of an example are drawn from."""

import random
from typing import Protocol


class Dice(Protocol):
    """Draws, one after the other; a recorded sequence of draws can stand in for it."""

    def random(self) -> float:
        """A number in [0, 1)."""

    def below(self, num: int) -> int:
        """A whole number from 0 to `num - 1`, each as likely."""


class PythonDice(random.Random):
    """Python's own generator, which the original draws from, too.

    `below(n)` is `randrange(n)`, which is also what `choice` of n things and `shuffle` take.
    """

    def below(self, num: int) -> int:
        """A whole number from 0 to `num - 1`, each as likely."""
        return self.randrange(num)
