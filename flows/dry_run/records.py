"""What a dry run finds."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

UNKNOWN = "not estimated"
NOT_MEASURED = "not measured: mend the paths first"
Counts = Mapping[tuple[str, str], int]
"""By (split, language)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """What annotation sources say about the photos of a run.

    questions:       those with answers
    captioned:       photos with captions
    num_boxed:       photos with boxes
    vocabulary_size: of a vocabulary made of all these texts
    """

    captions: Counts = field(default_factory=dict)
    questions: Counts = field(default_factory=dict)
    captioned: Counts = field(default_factory=dict)
    num_boxed: int = 0
    vocabulary_size: int = 0

    def translated(self, source: str, target: str) -> "Texts":
        """With everything that is said in one language said in another, too."""
        captions, questions, captioned = (
            _translated(counts, source, target)
            for counts in (self.captions, self.questions, self.captioned)
        )
        return replace(self, captions=captions, questions=questions, captioned=captioned)


def _translated(counts: Counts, source: str, target: str) -> Counts:
    more = {
        (split, target): num + counts.get((split, target), 0)
        for (split, language), num in counts.items()
        if language == source
    }
    return {**counts, **more}


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What one step will take.

    amount:       of work, in words
    seconds:      of wall time; None where nobody knows
    memory_bytes: of one process at its highest; 0 where it does not matter
    disk_bytes:   that lie there at the most while it works
    how:          where the numbers come from
    is_done:      nothing is left to do
    """

    step: str
    amount: str
    seconds: float | None = None
    memory_bytes: int = 0
    disk_bytes: int = 0
    how: str = ""
    is_done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Everything that was found.

    problems: what would stop the run, or waste it; one line each
    notes:    what one should know before a long run
    """

    problems: tuple[str, ...]
    notes: tuple[str, ...]
    estimates: tuple[Estimate, ...]


def some(num: int) -> str:
    """A number of things for people; what was counted in vain is not known."""
    return f"{num:,}" if num else "?"


class Problems:
    """Tells every problem as soon as it is found, and once.

    lines: all of them
    """

    def __init__(self, tell: Callable[[str], object]) -> None:
        self.lines: list[str] = []
        self._tell = tell

    def append(self, line: str) -> None:
        """Take a problem; "" is none."""
        if line and line not in self.lines:
            self.lines.append(line)
            self._tell(line)

    def extend(self, lines: Iterable[str]) -> None:
        """Take several."""
        for line in lines:
            self.append(line)
